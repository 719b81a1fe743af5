-- The Tomcat certificate of one CUCM node. Change host, domain, zone and address,
-- put the three secrets where moonseal finds them, and pin what the node shows:
--   moonseal secret test
--   moonseal trust cucm01-pub.example.com
-- With mode = "ask" nothing is changed before an approval; remove the line once you
-- trust it.
return require("moonseal.renew").tomcat {
  name = "first",
  mode = "ask",
  schedule = "17 3 * * *",
  -- window = "Sat,Sun 22:00-05:00 America/Chicago",
  node = { host = "cucm01-pub", domain = "example.com", username = secret "CUCM_USERNAME", password = secret "CUCM_PASSWORD" },
  zone = { provider = "cloudflare", api_token = secret "CF_API_TOKEN" },
  ca = { directory = "letsencrypt-staging", email = "admin@example.com" },
}
