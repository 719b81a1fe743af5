return playbook {
  name = "step-writes-outside",
  run = function(ctx)
    local seen = {}
    ctx:step("checking", function() seen.due = true end)
    if not seen.due then
      ctx:skip "not due"
    end
  end,
}
