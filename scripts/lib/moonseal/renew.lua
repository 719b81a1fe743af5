-- The standard pipeline: renews one certificate of one node, or of a cluster.
--
--   return require("moonseal.renew").tomcat { name = …, node = …, zone = …, ca = … }
--
-- Each stage is a function of ctx and s, the pipeline's state, and can be
-- replaced:
--
--   stages = { restarting_services = function(ctx, s) … end }
--
-- A stage that replaces another reaches the world through steps, like any run
-- function, and leaves in s what the later stages need:
--
--   s.node s.zone s.ca s.service s.spec      from the beginning
--   s.found   checking_certificate: installed, served, pending, held, renewal
--   s.csr     generating_csr
--   s.account creating_account
--   s.order   requesting_certificate
--   s.cert    downloading_certificate, or found as an earlier run left it
--   s.served  verifying_certificate
local acme, cucm, dns, log = require "acme", require "cucm", require "dns", require "log"

local M = {}

local known = {
  "ca", "csr", "give_up", "locks", "members", "mode", "name", "node", "on", "propagation", "renew_before", "restart", "schedule",
  "stages", "timeout", "verify_within", "window", "zone",
}

local order = {
  "checking_certificate", "generating_csr", "creating_account", "requesting_certificate", "creating_dns_challenge",
  "waiting_dns_propagation", "completing_validation", "downloading_certificate", "uploading_certificate",
  "restarting_services", "verifying_certificate", "cleaning_up",
}

-- refuse reports what is wrong at a key of the specification, at the key's own line.
local function refuse(key, text, hint)
  error { kind = "usage", key = key, message = key .. " " .. text, hint = hint }
end

-- unknown reports a key that is not in list.
local function unknown(key, list)
  error { kind = "usage", key = key, message = key .. " is not a known key", known = list }
end

-- part returns fn(…), and reports what fn refuses at the key of the specification that
-- it comes from. from is the part of fn's arguments that is there.
local function part(key, hint, from, fn, ...)
  local ok, result = pcall(fn, ...)
  if ok then return result end
  local inner, text = result.key or "", result.message or tostring(result)
  text = inner ~= "" and text:sub(1, #inner) == inner and text:sub(#inner + 1) or ": " .. text
  if inner:sub(1, #from) == from then inner = inner:sub(#from + 1) end
  if inner ~= "" and not inner:find("^[.%[]") then inner = "." .. inner end
  local usage = (result.hint or ""):gsub("^it is called as %S+", key .. " =")
  error { kind = "usage", key = key .. inner, message = key .. inner .. text, hint = hint or usage }
end

local function check_list(key, value, hint)
  if type(value) ~= "table" then refuse(key, "must be a list, got a " .. type(value), hint) end
  for k in pairs(value) do
    if type(k) ~= "number" then refuse(key .. "." .. tostring(k), "is a named key, but a list is expected", hint) end
  end
end

local function same(a, b)
  return a ~= nil and b ~= nil and a.sha256 == b.sha256
end

-- nodes returns the first node and, of a cluster, the others whose services use
-- the certificate too.
local function nodes(s)
  local all = { s.node }
  for _, member in ipairs(s.members) do all[#all + 1] = member end
  return all
end

local function hosts(all)
  local out = {}
  for i, node in ipairs(all) do out[i] = node.host end
  return out
end

-- each runs a step for every node: under the stage's own name for the only node,
-- with the host as its key in a cluster.
local function each(ctx, s, step, name, options, fn)
  local all, result = nodes(s), nil
  for _, node in ipairs(all) do
    local own = {}
    for k, v in pairs(options) do own[k] = v end
    if #all > 1 then own.key = node.host end
    local got = step(ctx, name, own, function() return fn(node) end)
    result = result or got
  end
  return result
end

-- request returns the arguments with which the node generates a signing request.
local function request(spec, service, members)
  local all = { service = service, members = hosts(members) }
  for k, v in pairs(spec.csr or {}) do all[k] = v end
  return all
end

local stages = {}

-- decide returns the stage to start at, from what is found, and why if that is not the
-- first: a deploy that failed half-way is repaired, not repeated.
local function decide(found)
  local renewal, installed = found.renewal, found.installed
  local due = renewal.due and not renewal.forced
  if not due and same(installed, found.ours) and not same(installed, found.served) then
    return "restarting_services", "the installed certificate is ours and is not served: continuing with the restart"
  end
  if found.held and not same(installed, found.held) then
    return "uploading_certificate", "an earlier run got a certificate for the pending signing request: continuing with its upload"
  end
  if renewal.due then return "generating_csr" end
end

-- expected returns the names that the new certificate will have, as far as they are
-- known before there is a signing request.
local function expected(s, installed)
  local csr, all = s.spec.csr or {}, {}
  for _, name in ipairs(installed and installed.names or {}) do all[#all + 1] = name end
  if #all == 0 then all[1] = s.node.host end
  for _, name in ipairs(csr.alt_names or {}) do all[#all + 1] = name end
  all[#all + 1] = csr.common_name
  return all
end

-- rehearse uses the credentials of what comes later, and changes nothing: a wrong
-- one fails the run before the signing request takes the place of an older one. An
-- appliance takes seconds to show its prompt, so the zone is checked meanwhile.
local function rehearse(s, found)
  local first, replaced, looks = decide(found), s.spec.stages or {}, {}
  if not first then return end
  if first == "generating_csr" and not replaced.creating_dns_challenge then
    looks[1] = { s.zone.check, s.zone, expected(s, found.installed) }
  end
  if not replaced.restarting_services then
    for _, node in ipairs(nodes(s)) do looks[#looks + 1] = { node.login, node } end
  end
  together(unpack(looks))
end

function stages.checking_certificate(ctx, s)
  s.found = ctx:step("checking_certificate", function()
    local installed = s.node:identity(s.service)
    local renewal, pending = together(
      { s.ca.renewal, s.ca, installed, { renew_before = s.spec.renew_before } },
      { s.node.pending_csr, s.node, s.service })
    local found = {
      installed = installed, served = s.node:served(), renewal = renewal, pending = pending,
      ours = s.node:issued(s.service), held = pending and s.ca:issued(pending),
    }
    rehearse(s, found)
    return found
  end)
end

function stages.generating_csr(ctx, s)
  s.csr = ctx:step("generating_csr", function() return s.node:csr(request(s.spec, s.service, s.members)) end)
end

function stages.creating_account(ctx, s)
  s.account = ctx:step("creating_account", function() return s.ca:account() end)
end

function stages.requesting_certificate(ctx, s)
  s.order = ctx:step("requesting_certificate", function()
    return s.account:order { csr = s.csr, replaces = s.found.installed }
  end)
end

function stages.creating_dns_challenge(ctx, s)
  ctx:step("creating_dns_challenge", { retry = 5 }, function() return s.zone:present(s.order.challenges) end)
end

function stages.waiting_dns_propagation(ctx, s)
  ctx:poll("waiting_dns_propagation", { within = s.spec.propagation or "10m", every = "500ms" }, function()
    return s.zone:propagated(s.order.challenges)
  end)
end

function stages.completing_validation(ctx, s)
  ctx:step("completing_validation", function() return s.account:validate(s.order) end)
end

function stages.downloading_certificate(ctx, s)
  s.cert = ctx:step("downloading_certificate", { retry = 5 }, function() return s.account:finalize(s.order, s.csr) end)
end

function stages.uploading_certificate(ctx, s)
  ctx:step("uploading_certificate", function() return s.node:upload(s.service, s.cert) end)
end

-- The publisher first, one node at a time.
function stages.restarting_services(ctx, s)
  each(ctx, s, ctx.step, "restarting_services", {}, function(node)
    return node:restart(s.service, { expect = s.cert, services = s.spec.restart })
  end)
end

-- On every node: a renewal counts only when each one serves the certificate.
function stages.verifying_certificate(ctx, s)
  s.served = each(ctx, s, ctx.poll, "verifying_certificate", { within = s.spec.verify_within or "15m" }, function(node)
    return node:serves(s.cert)
  end)
end

function stages.cleaning_up(ctx, s)
  if s.order then ctx:undo "creating_dns_challenge" end
end

local function subject(s)
  return s.node.host .. "/" .. s.service
end

-- start returns the stage to start at, and what the stages before it would have left.
local function start(s)
  local first, why = decide(s.found)
  if why then log.info(why) end
  if first == "restarting_services" then
    s.cert = s.found.ours
  elseif first == "uploading_certificate" then
    s.csr, s.cert = s.found.pending, s.found.held
  end
  return first
end

-- member returns the specification of a node of the cluster: what it does not specify is
-- as for the first node.
local function member(spec, i)
  local own = spec.members[i]
  if type(own) ~= "table" then
    refuse("members[" .. i .. "]", "must be a table, got a " .. type(own), "members = { { host = " .. ("%q"):format(tostring(own)) .. " } }")
  end
  local all = {}
  for k, v in pairs(spec.node) do all[k] = v end
  for k, v in pairs(own) do all[k] = v end
  return all
end

-- describe makes what the specification describes, into s.
local function describe(s, spec)
  s.node, s.zone, s.ca, s.members =
    part("node", nil, "", cucm.node, spec.node), part("zone", nil, "", dns.zone, spec.zone), part("ca", nil, "", acme.ca, spec.ca), {}
  for i in ipairs(spec.members or {}) do
    s.members[i] = part("members[" .. i .. "]", nil, "", cucm.node, member(spec, i))
  end
end

-- check_propagation refuses a wait that is longer than what the stage is allowed.
local function check_propagation(spec)
  local how = spec.zone.propagation or {}
  local within = duration(spec.propagation or "10m")
  local wait = duration(how.wait or (how.mode == "wait" and "2m" or 0))
  if wait >= within then
    refuse("zone.propagation.wait", "must be shorter than propagation, which is " .. tostring(spec.propagation or "10m"),
      'propagation = "20m" beside zone allows more time')
  end
end

-- check_later checks now what the stages otherwise get only in the middle of a run.
local function check_later(s, spec, service)
  if spec.csr ~= nil and type(spec.csr) ~= "table" then
    refuse("csr", "must be a table, got a " .. type(spec.csr), "csr = { key_length = 4096 }")
  end
  if spec.csr and spec.csr.service then refuse("csr.service", "is not a known key: it is " .. service .. " here", "leave it out") end
  part("csr", nil, "", check, s.node.csr, s.node, request(spec, service, s.members))
  if spec.restart ~= nil then check_list("restart", spec.restart, 'restart = { "Cisco Tomcat" }') end
  for _, node in ipairs(nodes(s)) do
    part("restart", 'restart = { "Cisco Tomcat" }', "options.services", check, node.restart, node, service, { services = spec.restart })
  end
  part("renew_before", 'renew_before = "30d"', "options.renew_before", check, s.ca.renewal, s.ca, nil, { renew_before = spec.renew_before })
  for key, example in pairs { propagation = "10m", verify_within = "15m" } do
    if spec[key] ~= nil then part(key, key .. ' = "' .. example .. '"', "", duration, spec[key]) end
  end
  check_propagation(spec)
end

-- replaced returns the stages with those that the specification replaces.
local function replaced(spec)
  local stage = {}
  for name, fn in pairs(stages) do stage[name] = fn end
  local hint = "stages = { restarting_services = function(ctx, s) … end }"
  if spec.stages ~= nil and type(spec.stages) ~= "table" then refuse("stages", "must be a table of functions, got a " .. type(spec.stages), hint) end
  for name, fn in pairs(spec.stages or {}) do
    if stage[name] == nil then unknown("stages." .. tostring(name), order) end
    if type(fn) ~= "function" then refuse("stages." .. name, "must be a function, got a " .. type(fn), hint) end
    stage[name] = fn
  end
  return stage
end

local function body(spec, service)
  local stage = replaced(spec)
  return function(ctx)
    local s = { spec = spec, service = service }
    describe(s, spec)
    stage.checking_certificate(ctx, s)
    ctx:record { subject = subject(s), installed = s.found.installed, served = s.found.served, next = s.found.renewal.at }
    local first = start(s)
    if not first then ctx:skip("not due: " .. s.found.renewal.reason) end
    local started = false
    for _, name in ipairs(order) do
      started = started or name == first
      if started then stage[name](ctx, s) end
    end
    ctx:record { subject = subject(s), installed = s.cert, issued = s.cert, served = s.served }
  end
end

-- check_keys refuses keys that the specification cannot have, and parts that it lacks.
local function check_keys(spec)
  local is = {}
  for _, key in ipairs(known) do is[key] = true end
  for key in pairs(spec) do
    if type(key) ~= "string" then refuse("[" .. tostring(key) .. "]", "has no name", 'name = value, such as node = { host = "cucm01" }') end
    if not is[key] then unknown(key, known) end
  end
  for key, example in pairs {
    node = '{ host = "cucm01-pub.example.com", username = …, password = secret "NAME" }',
    zone = '{ provider = "cloudflare", api_token = secret "NAME" }',
    ca = '{ directory = "letsencrypt", email = "admin@example.com" }',
  } do
    if spec[key] == nil then refuse(key, "is missing", key .. " = " .. example) end
    if type(spec[key]) ~= "table" then refuse(key, "must be a table, got a " .. type(spec[key]), key .. " = " .. example) end
  end
  if spec.members ~= nil then check_list("members", spec.members, 'members = { { host = "cucm02-sub" } }') end
end

-- renew makes the playbook of a service's certificate.
local function renew(service)
  return function(spec)
    if type(spec) ~= "table" then
      error { kind = "usage", message = "moonseal.renew." .. service .. " expects one table, got a " .. type(spec) }
    end
    check_keys(spec)
    -- What can be refused is refused while loading, not at three in the morning.
    -- "moonseal doctor" looks at all that is described here.
    local s = {}
    describe(s, spec)
    check_later(s, spec, service)
    return playbook {
      name = spec.name, schedule = spec.schedule, window = spec.window, mode = spec.mode, locks = spec.locks,
      timeout = spec.timeout or "2h", give_up = spec.give_up, on = spec.on, run = body(spec, service),
    }
  end
end

-- What is served is looked at on port 443 with a default handshake, which proves an
-- RSA certificate of Tomcat and no other.
local offered = { tomcat = "tomcat" }
local unproven = {
  tomcat_ecdsa = "tomcat-ECDSA", call_manager = "CallManager", call_manager_ecdsa = "CallManager-ECDSA",
  capf = "CAPF", tvs = "TVS", ipsec = "ipsec", cup = "cup", cup_xmpp = "cup-xmpp", cup_xmpp_s2s = "cup-xmpp-s2s",
}

-- A mistyped service is an error that names the services that there are.
setmetatable(M, {
  __index = function(_, key)
    error { kind = "usage", key = tostring(key), message = "moonseal.renew has no \"" .. tostring(key) .. "\"", known = { "tomcat" } }
  end,
})

for name, service in pairs(offered) do M[name] = renew(service) end

for name, service in pairs(unproven) do
  M[name] = function()
    error("moonseal.renew." .. name .. " is not offered yet: moonseal cannot prove yet that the " .. service
      .. " certificate is served, and would restart its services at each look; it comes back with "
      .. "\"Renew a whole cluster, and prove it on every port\"", 2)
  end
end

return M
