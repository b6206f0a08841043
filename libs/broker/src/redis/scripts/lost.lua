-- Stands before the scripts that are told what was given.

-- Whether an offset that was given is not in the stream any more: it is behind the end, or at a seam. Seams are
-- "last:first," of what comes before and after, newest first.
local function is_lost(given, offset, seams)
  if given > offset then
    return true
  end
  for last, first in string.gmatch(seams, '(%d+):(%d+)') do
    if tonumber(last) < given and given < tonumber(first) then
      return true
    end
  end
  return false
end
