Units that require each other start side by side, and what fails beside a unit that runs is named.

--- left
[unit]
requires = ["right"]
[service]
exec = ["/bin/left"]
[restart]
policy = "no"

--- right
[unit]
requires = ["left"]
[service]
exec = ["/bin/right"]
[restart]
policy = "no"

--- story
> start left
  left waiting
  right waiting
  spawn left@1
  left starting
  spawn right@1
  right starting
> executed left
  left running
> executed right
  right running
> exits right 3
  right stopping: exit status 3
  kill right
> emptied right
  release right@1
  right failed: exit status 3
> why left
  left runs (running)
    right has failed (failed), last: exit status 3
> why right
  right has failed (failed), last: exit status 3
> start right
  right waiting
  spawn right@2
  right starting
> restart left
  left stopping: asked to restart
  right stopping: restarted with left, which it requires
  signal 15 to left (main)
  kill right
> exits left 0
  kill left
> emptied left
  release left@1
  left waiting
> stop left
  left stopped: asked to stop
