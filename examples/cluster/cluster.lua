-- A publisher and a subscriber that share one multi-server certificate. The nodes are
-- restarted one after the other, only in the window, and only after an approval.
return require("moonseal.renew").tomcat {
  name = "cluster", schedule = "17 3 * * *",
  mode = "ask", window = "Sat,Sun 22:00-05:00 America/Chicago",
  node = { host = "cucm01-pub", domain = "automate.builders", username = secret "CUCM_USERNAME", password = secret "CUCM_PASSWORD" },
  members = { { host = "cucm02-sub" } },
  csr = { distribution = "multi-server", names = { "imp01.automate.builders" } }, -- CUCM lists the IM and Presence node too
  zone = { provider = "cloudflare", api_token = secret "CF_API_TOKEN" },
  ca = { directory = "letsencrypt", email = "admin@automate.builders" },
}
