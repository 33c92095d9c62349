"""Human power: worlds of humans and robots, what each human can reach, and the robot policy that keeps people able."""
