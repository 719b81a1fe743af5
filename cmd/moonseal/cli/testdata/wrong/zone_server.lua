return require("moonseal.renew").tomcat {
  node = { host = "cucm01-pub", domain = "example.com", username = "admin", password = secret "P" },
  zone = { provider = "rfc2136", server = "ns1.example.com:dns", key_name = "k", key = secret "K" },
  ca = { email = "admin@example.com" },
}
