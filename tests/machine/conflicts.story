Starting one brings the other down first.

--- red
[service]
exec = ["/bin/red"]

--- blue
[unit]
conflicts = ["red"]
[service]
exec = ["/bin/blue"]

--- story
> start red
  red waiting
  spawn red@1
  red starting
> executed red
  red running
> start blue
  red stopping: stopped for blue, which it conflicts with
  blue waiting
  signal 15 to red (main)
> why blue
  blue waits for other units (waiting); red is not stopped
    red was told to stop (stopping), until 10s, last: stopped for blue, which it conflicts with
> exits red 0
  kill red
> emptied red
  release red@1
  red stopped: stopped for blue, which it conflicts with
  spawn blue@1
  blue starting
> executed blue
  blue running
> start red
  blue stopping: stopped for red, which it conflicts with
  red waiting
  signal 15 to blue (main)
