return require("moonseal.renew").tomcat {
  node = { host = "cucm01-pub", domain = "example.com", username = "admin", password = secret "P" },
  zone = { provider = "cloudflare", api_token = secret "T" },
  ca = { email = "admin@example.com" },
  mode = "aks",
}
