return require("moonseal.renew").tomcat {
  node = {
    host = "cucm01-pub", username = "admin", password = "hunter2",
  },
  zone = { provider = "cloudflare", api_token = secret "T" },
  ca = { email = "admin@example.com" },
}
