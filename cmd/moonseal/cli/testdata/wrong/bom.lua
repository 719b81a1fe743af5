return playbook { run = function(ctx) end }
