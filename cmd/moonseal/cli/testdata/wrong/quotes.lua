return playbook { name = “x”, run = function(ctx) end }
