return require("moonseal.renew").tomcat {
  node = { host = "cucm01-pub.example.com:8443", username = "admin", password = secret "P" },
  zone = { provider = "cloudflare", api_token = secret "T" },
  ca = { email = "admin@example.com" },
}
