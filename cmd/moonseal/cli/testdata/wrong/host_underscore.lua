return require("moonseal.renew").tomcat {
  node = { host = "cucm01_pub.example.com", username = "admin", password = secret "P" },
  zone = { provider = "cloudflare", api_token = secret "T" },
  ca = { email = "admin@example.com" },
}
