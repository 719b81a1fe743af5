return require("moonseal.renew").tomcat {
  node = { host = "https://cucm01-pub.example.com/", username = "admin", password = secret "P" },
  zone = { provider = "cloudflare", api_token = secret "T" },
  ca = { email = "admin@example.com" },
}
