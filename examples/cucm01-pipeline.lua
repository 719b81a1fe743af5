-- The renewal of one node's Tomcat certificate, written out. moonseal.renew does
-- the same and more: it also continues what an earlier run left.
local acme, cucm, dns = require "acme", require "cucm", require "dns"

-- Made here, "moonseal doctor" looks at them before a run needs them.
local node = cucm.node {
  host = "cucm01-pub", domain = "automate.builders", username = secret "CUCM_USERNAME", password = secret "CUCM_PASSWORD",
}
local zone = dns.zone { provider = "cloudflare", api_token = secret "CF_API_TOKEN" }
local ca = acme.ca { directory = "letsencrypt", email = "admin@automate.builders" }

return playbook {
  name = "cucm01-pipeline", schedule = "17 3 * * *", timeout = "2h",

  run = function(ctx)
    local found = ctx:step("checking_certificate", function()
      local installed = node:identity "tomcat"
      return { installed = installed, served = node:served(), renewal = ca:renewal(installed, { renew_before = "30d" }) }
    end)
    ctx:record { subject = "cucm01-pub/tomcat", installed = found.installed, served = found.served, next = found.renewal.at }
    if not found.renewal.due then ctx:skip("not due: " .. found.renewal.reason) end

    local csr = ctx:step("generating_csr", function() return node:csr { service = "tomcat" } end)
    local account = ctx:step("creating_account", function() return ca:account() end)
    local order = ctx:step("requesting_certificate", function() return account:order { csr = csr, replaces = found.installed } end)
    ctx:step("creating_dns_challenge", { retry = 5 }, function() return zone:present(order.challenges) end)
    ctx:poll("waiting_dns_propagation", { within = "10m", every = "500ms" }, function() return zone:propagated(order.challenges) end)
    ctx:step("completing_validation", { retry = 3 }, function() return account:validate(order) end)
    local cert = ctx:step("downloading_certificate", { retry = 5 }, function() return account:finalize(order, csr) end)
    ctx:step("uploading_certificate", function() return node:upload("tomcat", cert) end)
    ctx:step("restarting_services", function() return node:restart("tomcat", { expect = cert }) end)
    local served = ctx:poll("verifying_certificate", { within = "15m" }, function() return node:serves(cert) end)
    ctx:undo "creating_dns_challenge" -- cleaning_up; would also happen by itself at the end
    ctx:record { subject = "cucm01-pub/tomcat", installed = cert, issued = cert, served = served }
  end,
}
