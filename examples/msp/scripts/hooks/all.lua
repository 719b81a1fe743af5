-- Sees the runs of all customers.
local log = require "log"

return {
  failure = function(ctx, event) log.error("renewal failed", { playbook = ctx.playbook, step = event.step, why = event.reason or event.error.message }) end,
}
