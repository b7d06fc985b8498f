-- Members of a set whose record does not carry its label.
-- KEYS: records of the entity in the bucket, set of members
-- ARGV: label, value ('' = a flag), take them out (0 or 1), then members
-- Returns those members.
local members = {}
for i = 4, #ARGV do members[#members + 1] = ARGV[i] end
local records = redis.call('HMGET', KEYS[1], unpack(members))
-- What labels carry, by their text: few are different.
local read = {}
local function carries(text)
  if read[text] == nil then
    local is_json, labels = pcall(cjson.decode, text)
    local value = is_json and type(labels) == 'table' and labels[ARGV[1]]
    read[text] = value == ARGV[2] or (value == true and ARGV[2] == '')
  end
  return read[text]
end
local astray = {}
for i, member in ipairs(members) do
  local labels = records[i] and string.match(records[i], '^{"v":%[%d+,%d+%],"labels":(.*)}$')
  if not labels or not carries(labels) then astray[#astray + 1] = member end
end
if ARGV[3] == '1' and #astray > 0 then redis.call('SREM', KEYS[2], unpack(astray)) end
return astray
