-- memcached's proxy in front of the three nodes, each with a copy of everything:
-- memcached -p 11411 -o proxy_config=routelib,proxy_arg=replicate.lua
--
-- Writes go to all nodes, and wait for all. Reads go to one, and to the next if it does not answer or has no such item.
-- While a node is down, `set`, `ms`, `delete` and `md` go to the others; other writes reach the others too, but the
-- client gets an error. A node that comes back lacks what was written meanwhile. It must come back empty: run the nodes
-- without --journal, or clients read values that were replaced or deleted meanwhile.

pools{
    set_all = {
        { backends = { "node1:11211" } },
        { backends = { "node2:11211" } },
        { backends = { "node3:11211" } },
    }
}

settings{
    backend_connect_timeout = 1,
    backend_retry_timeout = 1,
    backend_failure_limit = 1,
}

local function read()
    return route_failover{ children = "set_all", miss = true, shuffle = true }
end

-- The second attempt is for the case that a node is down. It does no harm to do these commands twice.
local function write()
    return route_failover{ children = { route_allsync{ children = "set_all" }, route_allfastest{ children = "set_all" } } }
end

routes{
    cmap = {
        get = read(), gets = read(), mg = read(),
        set = write(), ms = write(), delete = write(), md = write(),
    },
    default = route_allsync{ children = "set_all" },
}
