-- Renews the Tomcat certificate of one CUCM node. Copy it, once for each
-- cluster, and change host, domain, zone and address; moonseal trust HOST pins
-- what the node shows today.
return require("moonseal.renew").tomcat {
  name = "cucm-tomcat",
  schedule = "17 3 * * *",
  node = { host = "cucm01-pub", domain = "automate.builders", username = secret "CUCM_USERNAME", password = secret "CUCM_PASSWORD" },
  zone = { provider = "cloudflare", api_token = secret "CF_API_TOKEN" },
  ca = { directory = "letsencrypt", email = "admin@automate.builders" },
}
