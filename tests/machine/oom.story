An OOM kill is its own cause, whoever says it first.

--- fat
[service]
exec = ["/bin/fat"]
[oom]
policy = "kill-cell"
[restart]
jitter = "0%"

--- calm
[service]
exec = ["/bin/calm"]
[oom]
policy = "continue"
[restart]
jitter = "0%"

--- story
> start fat
  fat waiting
  spawn fat@1
  fat starting
> executed fat
  fat running
> oom fat
  fat stopping: a process of the cell was killed for want of memory
  kill fat
> dies fat 9
> emptied fat
  release fat@1
  fat backoff: a process of the cell was killed for want of memory
> start calm
  calm waiting
  spawn calm@1
  calm starting
> executed calm
  calm running
> oom calm
> dies calm 9
  calm stopping: killed for want of memory (signal 9)
  kill calm
> emptied calm
  release calm@1
  calm backoff: killed for want of memory (signal 9)
