`on` and `never-on` name causes; `never-on` is the stronger one.

--- guest
[service]
exec = ["/bin/guest"]
[restart]
policy = "no"
on = ["trap"]
jitter = "0%"

--- proud
[service]
exec = ["/bin/proud"]
[restart]
policy = "always"
never-on = ["signal"]
jitter = "0%"

--- story
> start guest
  guest waiting
  spawn guest@1
  guest starting
> executed guest
  guest running
> traps guest
  guest stopping: WebAssembly trap: unreachable
  kill guest
> emptied guest
  release guest@1
  guest backoff: WebAssembly trap: unreachable
> wait 1s
  at 100ms
  guest waiting
  spawn guest@2
  guest starting
> executed guest
  guest running
> exits guest 1
  guest stopping: exit status 1
  kill guest
> emptied guest
  release guest@2
  guest failed: exit status 1
> start proud
  proud waiting
  spawn proud@1
  proud starting
> executed proud
  proud running
> exits proud 0
  proud stopping: ended with success (exit status 0)
  kill proud
> emptied proud
  release proud@1
  proud backoff: ended with success (exit status 0)
> wait 1s
  at 1.1s
  proud waiting
  spawn proud@2
  proud starting
> executed proud
  proud running
> dies proud 11
  proud stopping: signal 11
  kill proud
> emptied proud
  release proud@2
  proud failed: signal 11
