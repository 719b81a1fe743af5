return require("lib.cluster").tomcat {
  customer = "ACME", name = "dfw", tz = "America/Chicago", window = "Sat,Sun 22:00-05:00 America/Chicago",
  publisher = "cucm01-pub", domain = "automate.builders", email = "certificates@automate.builders",
}
