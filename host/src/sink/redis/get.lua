-- Records of keys of one entity and bucket.
-- KEYS: records of the entity in the bucket
-- ARGV: begin of the names of sets of members, then keys
-- Returns for every key its record (false = none) and whether the sets of members agree with it (0 or 1).
local keys = {}
for i = 2, #ARGV do keys[#keys + 1] = ARGV[i] end
local records = redis.call('HMGET', KEYS[1], unpack(keys))
-- The sets of members that labels stand for, by the labels' text: few are different.
local read = {}
local function sets_of(text)
  if not read[text] then
    local sets = {}
    local is_json, labels = pcall(cjson.decode, text)
    if is_json and type(labels) == 'table' then
      for label, value in pairs(labels) do
        sets[#sets + 1] = value == true and label or label .. '=' .. tostring(value)
      end
    end
    read[text] = sets
  end
  return read[text]
end
-- Places of keys by the set that should have them.
local places = {}
for i, record in ipairs(records) do
  local labels = record and string.match(record, '^{"v":%[%d+,%d+%],"labels":(.*)}$')
  for _, set in ipairs(labels and sets_of(labels) or {}) do
    places[set] = places[set] or {}
    table.insert(places[set], i)
  end
end
local agrees = {}
for set, of_set in pairs(places) do
  local asked = {}
  for n, i in ipairs(of_set) do asked[n] = keys[i] end
  for n, is_member in ipairs(redis.call('SMISMEMBER', ARGV[1] .. set, unpack(asked))) do
    if is_member == 0 then agrees[of_set[n]] = 0 end
  end
end
local found = {}
for i, record in ipairs(records) do
  found[#found + 1] = record
  found[#found + 1] = agrees[i] or 1
end
return found
