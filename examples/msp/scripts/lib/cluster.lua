-- What the clusters of all customers have in common. A customer's script says the rest.
local renew = require "moonseal.renew"

local M = {}

-- tomcat renews the Tomcat certificate of customer c's cluster, with the customer's secrets.
function M.tomcat(c)
  return renew.tomcat {
    name = c.name, mode = c.mode or "ask", window = c.window,
    schedule = { cron = "17 3 * * *", tz = c.tz, jitter = "30m" },
    node = {
      host = c.publisher, domain = c.domain,
      username = secret(c.customer .. "_CUCM_USERNAME"), password = secret(c.customer .. "_CUCM_PASSWORD"),
    },
    members = c.members, csr = c.csr,
    zone = { provider = "cloudflare", api_token = secret(c.customer .. "_CF_API_TOKEN") },
    ca = { directory = "letsencrypt", email = c.email },
  }
end

return M
