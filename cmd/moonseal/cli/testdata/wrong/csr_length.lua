return require("moonseal.renew").tomcat {
  node = { host = "cucm01-pub", domain = "example.com", username = "admin", password = secret "P" },
  zone = { provider = "cloudflare", api_token = secret "T" },
  ca = { email = "admin@example.com" },
  csr = { key_length = 1234 },
}
