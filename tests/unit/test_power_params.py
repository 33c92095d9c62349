import math

import pytest

from apportion.power.params import PowerParams, check, parse_values, with_values
from apportion.types import UserError

OUTSIDE = [
    ({"gamma_h": 0.0}, r"gamma_h 0 is out of range: allowed is \(0, 1\]"),
    ({"gamma_r": 1.2}, r"gamma_r 1.2 .*\(0, 1\]"),
    ({"beta_h": -1.0}, r"beta_h -1 .*\[0, inf\]"),
    ({"beta_r": math.inf}, r"beta_r inf .*\[0, inf\)"),
    ({"zeta": 0.9}, r"zeta 0.9 .*\[1, inf\)"),
    ({"xi": 0.0}, r"xi 0 .*\[1, inf\)"),
    ({"eta": math.nan}, r"eta nan .*\[1, inf\)"),
    ({"nu_h": 1.1}, r"nu_h 1.1 .*\[0, 1\]"),
    ({"x_floor": 1.0}, r"x_floor 1 .*\[0, 1\)"),
    ({"robot_belief": "worst"}, r"robot_belief worst: choose from min, max, mean"),
    ({"aggregate": "product"}, r"aggregate product: choose from mean, sum"),
    ({"xi": "two"}, r"xi two: a number is wanted"),
    ({"duration_weight": "yes"}, r"duration_weight yes: true or false"),
    ({"zetta": 2.0}, r"no parameter zetta; did you mean zeta\?"),
]


@pytest.mark.parametrize(("values", "words"), OUTSIDE)
def test_what_is_out_of_range_is_one_line_that_names_it(values, words):
    with pytest.raises(UserError, match=words) as caught:
        check(with_values(PowerParams(), values), 5)
    assert "\n" not in str(caught.value)


def test_the_limits_of_the_ranges_are_allowed():
    ends = PowerParams(gamma_h=1.0, gamma_r=1.0, beta_h=math.inf, beta_r=0.0, zeta=1.0, nu_h=1.0, x_floor=0.0)
    check(ends, 1)
    check(PowerParams(beta_h=0.0, nu_h=0.0, x_floor=0.999), None)


@pytest.mark.parametrize("name", ["gamma_h", "gamma_r"])
def test_no_discount_needs_an_end(name):
    with pytest.raises(UserError, match=rf"{name} 1 needs an end"):
        check(with_values(PowerParams(), {name: 1}), None)


def test_values_are_read_as_written():
    assert parse_values(["xi=2,eta=1.5", "beta-h=inf"]) == {"xi": "2", "eta": "1.5", "beta-h": "inf"}
    params = with_values(PowerParams(), {"xi": "2", "beta-h": "inf", "duration_weight": "True", "robot_belief": "max"})
    assert params == PowerParams(xi=2.0, beta_h=math.inf, duration_weight=True, robot_belief="max")
    with pytest.raises(UserError, match=r"'xi': a parameter is given as name=value, like xi=2"):
        parse_values(["xi"])
