-- memcached's proxy in front of the three nodes, as a cache that another node stands in for:
-- memcached -p 11411 -o proxy_config=routelib,proxy_arg=failover.lua
--
-- Each key has one node, by its hash. While that node is down, the first of the others that answers takes its keys,
-- empty, and with an expiry time of ten seconds: what was written there is soon gone when the node is back. The nodes
-- must come back empty: run them without --journal, or clients read values that were replaced or deleted meanwhile.

local nodes = { "node1:11211", "node2:11211", "node3:11211" }

pools{
    by_hash = { backends = nodes },
    first = { backends = { nodes[1] } },
    second = { backends = { nodes[2] } },
    third = { backends = { nodes[3] } },
}

settings{
    backend_connect_timeout = 1,
    backend_retry_timeout = 1,
    backend_failure_limit = 1,
}

local function stand_in(pool)
    return route_ttl{ ttl = 10, child = pool }
end

local function store()
    return route_failover{ children = { "by_hash", stand_in("first"), stand_in("second"), stand_in("third") } }
end

routes{
    cmap = { set = store(), add = store(), cas = store(), ms = store() },
    default = route_failover{ children = { "by_hash", "first", "second", "third" } },
}
