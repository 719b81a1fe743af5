local cucm = require "cucm"
local node = cucm.node { host = "a", username = "u", password = secret "P" }
check(node.restart, node, "tomcat", {
  servces = { "Cisco Tomcat" },
})
return playbook { run = function(ctx) end }
