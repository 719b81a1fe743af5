return require("lib.cluster").tomcat {
  customer = "CASTOR", name = "ord", tz = "America/Chicago", window = "Sat 14:00-20:00 America/Chicago",
  publisher = "cucm02-sub", domain = "automate.builders", email = "uc@automate.builders",
}
