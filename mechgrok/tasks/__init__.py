"""What models learn. One file per task, each with a class `Task`; the file name is the name."""

from mechgrok.tasks._rows import Rows as Rows
