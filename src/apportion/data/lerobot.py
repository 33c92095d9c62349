"""LeRobot data sets, versions 2.0 to 3.0: the reader, the writer and the writer of progress files."""

from apportion.data.lerobot_progress import write_progress
from apportion.data.lerobot_read import LeRobotSet
from apportion.data.lerobot_write import write_lerobot

__all__ = ["LeRobotSet", "write_lerobot", "write_progress"]
