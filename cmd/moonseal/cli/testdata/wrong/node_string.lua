return require("moonseal.renew").tomcat {
  node = "cucm01-pub",
  zone = { provider = "cloudflare", api_token = secret "T" },
  ca = { email = "admin@example.com" },
}
