-- Stands before the scripts that announce.

-- A field of bytes as protobuf: what it is, how long it is, the bytes.
local function field(tag, bytes)
  local rest, size = #bytes, ''
  while rest > 127 do
    size = size .. string.char(128 + rest % 128)
    rest = math.floor(rest / 128)
  end
  return string.char(tag) .. size .. string.char(rest) .. bytes
end

