local acme = require "acme"
local ca = acme.ca {
  email = "admin@example.com",
  preferred_chian = "ISRG Root X1",
}
return playbook { run = function(ctx) end }
