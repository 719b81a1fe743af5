local node = {
  host = "cucm01-pub",
  username = "admin", password = secret "P", port = "8443",
}

return require("moonseal.renew").tomcat {
  node = node,
  zone = { provider = "cloudflare", api_token = secret "T" },
  ca = { email = "admin@example.com" },
}
