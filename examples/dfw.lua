-- One cluster. Copy this file, once for each, and change what is in it.
local log = require "log"

return require("moonseal.renew").tomcat {
  name = "dfw", schedule = "17 3 * * *",
  node = { host = "cucm01-pub", domain = "automate.builders", username = secret "CUCM_USERNAME", password = secret "CUCM_PASSWORD" },
  zone = { provider = "cloudflare", api_token = secret "CF_API_TOKEN" },
  ca = { directory = "letsencrypt", email = "admin@automate.builders" },
  on = { failure = function(ctx, event) log.error("the renewal failed", { step = event.step, why = event.reason or event.error.message }) end },
}
