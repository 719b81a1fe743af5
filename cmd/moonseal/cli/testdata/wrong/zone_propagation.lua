return require("moonseal.renew").tomcat {
  node = { host = "cucm01-pub", domain = "example.com", username = "admin", password = secret "P" },
  zone = { provider = "cloudflare", api_token = secret "T", propagation = { mode = "resolver" } },
  ca = { email = "admin@example.com" },
}
