local cucm = require "cucm"

return playbook {
  name = "poll-changes",
  run = function(ctx)
    local node = cucm.node { host = "cucm01.example.com", username = secret "CUCM_USERNAME", password = secret "CUCM_PASSWORD" }
    ctx:poll("restarting", function() return node:restart("tomcat") end)
  end,
}
