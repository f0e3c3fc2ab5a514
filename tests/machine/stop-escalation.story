Signal, timeout, SIGKILL; and again, as long as the cell is not empty. `mixed` tells the main process; when that one is gone
the rest is killed at once. `cell` tells everyone, and everyone has the whole timeout.

--- mixed
[service]
exec = ["/bin/mixed"]
[stop]
timeout = "2s"
mode = "mixed"

--- whole
[service]
exec = ["/bin/whole"]
[stop]
timeout = "2s"
mode = "cell"

--- silent
[service]
exec = ["/bin/silent"]
[stop]
timeout = "2s"
mode = "none"

--- story
> start mixed
  mixed waiting
  spawn mixed@1
  mixed starting
> executed mixed
  mixed running
> stop mixed
  mixed stopping: asked to stop
  signal 15 to mixed (main)
> exits mixed 0
  kill mixed
> emptied mixed
  release mixed@1
  mixed stopped: asked to stop
> start mixed
  mixed waiting
  spawn mixed@2
  mixed starting
> executed mixed
  mixed running
> stop mixed
  mixed stopping: asked to stop
  signal 15 to mixed (main)
> wait 8s
  at 2s
  kill mixed
  at 7s
  kill mixed
> dies mixed 9
> emptied mixed
  release mixed@2
  mixed stopped: asked to stop

> start whole
  whole waiting
  spawn whole@1
  whole starting
> executed whole
  whole running
> stop whole
  whole stopping: asked to stop
  signal 15 to whole (cell)
> exits whole 0
> wait 2s
  at 10s
  kill whole
> emptied whole
  release whole@1
  whole stopped: asked to stop

> start silent
  silent waiting
  spawn silent@1
  silent starting
> executed silent
  silent running
> stop silent
  silent stopping: asked to stop
> wait 2s
  at 12s
  kill silent
> dies silent 9
> emptied silent
  release silent@1
  silent stopped: asked to stop
