return require("moonseal.renew").tomcat {
  node = { host = "cucm01-pub", domain = "example.com", username = "admin", password = secret "P" },
  ca = { email = "admin@example.com" },
}
