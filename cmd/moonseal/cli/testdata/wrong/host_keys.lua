return require("moonseal.renew").tomcat {
  node = { host = "cucm01-pub", username = "admin", password = secret "P", ssh_host_keys = { "ab:cd" } },
  zone = { provider = "cloudflare", api_token = secret "T" },
  ca = { email = "admin@example.com" },
}
