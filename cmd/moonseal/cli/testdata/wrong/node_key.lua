return require("moonseal.renew").tomcat {
  node = {
    hots = "cucm01-pub", username = "admin", password = secret "P",
  },
  zone = { provider = "cloudflare", api_token = secret "T" },
  ca = { email = "admin@example.com" },
}
