%% Configuration of the gateway and its transports: defaults, refusals by name, the file that users begin with.
-module(erlmcp_shm_gateway_config_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(C, erlmcp_shm_config).

all() ->
    [
        defaults,
        defaults_of_transports,
        shipped_file,
        idempotent,
        written_differently,
        refused,
        refused_in_transports,
        urls,
        refused_urls,
        twice_the_same,
        own_module,
        starts_from_sys_config,
        disabled,
        refused_at_start,
        stops_in_order
    ].

init_per_testcase(Case, Config) ->
    process_flag(trap_exit, true),
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop().

flow(Map) ->
    {ok, Flow} = ?C:claude_flow(Map),
    Flow.

transport(Transport) ->
    #{transports := [Checked]} = flow(#{transports => [Transport]}),
    Checked.

config(Type, Config) ->
    maps:get(config, transport(#{type => Type, config => Config})).

%%% What is accepted

defaults(_Config) ->
    Breaker = #{enabled => true, failure_threshold => 5, success_threshold => 2, timeout_ms => 30000},
    ?assertMatch(
        #{
            enabled := true,
            shared_memory := #{enabled := false},
            transports := [],
            auto_failover := true,
            multiplexing := false,
            health_check_interval := 30000,
            circuit_breaker := Breaker,
            owner := undefined
        },
        flow(#{})
    ),
    ?assertMatch(#{circuit_breaker := Breaker}, flow(#{circuit_breaker => #{}})),
    ?assertMatch(#{circuit_breaker := #{enabled := false, timeout_ms := 30000}}, flow(#{circuit_breaker => false})),
    ?assertMatch(#{circuit_breaker := #{failure_threshold := 1}}, flow(#{circuit_breaker => #{failure_threshold => 1}})).

defaults_of_transports(_Config) ->
    Batch = fun(Size, Bytes, Ms) ->
        #{max_batch_size => Size, max_batch_bytes => Bytes, max_batch_delay_ms => Ms}
    end,
    Messages = #{
        max_message_bytes => 4194304,
        max_queue_bytes => 8388608,
        endpoint => true,
        page_size => 200,
        request_timeout => 5000,
        tool_timeout => 60000
    },
    Listener = Messages#{
        host => "localhost",
        port => 8080,
        tls => false,
        allowed_origins => local,
        max_connections => 1024,
        rate_limit => infinity,
        metrics_path => "/metrics",
        batching => false,
        batch_config => Batch(50, 32768, 5)
    },
    Expected = [
        {websocket, erlmcp_shm_transport_ws, Listener#{
            path => "/mcp/ws", compression => permessage_deflate, batching := true
        }},
        {http, erlmcp_shm_transport_http, Listener#{path => "/mcp", compression => gzip, method => post, session_timeout => 600000}},
        {sse, erlmcp_shm_transport_sse, Listener#{path => "/mcp/sse", compression => none}},
        {stdio, erlmcp_shm_transport_stdio, Messages#{
            io_device => user,
            batching => true,
            batch_config => Batch(1000, 1048576, 1)
        }}
    ],
    [
        ?assertEqual(
            #{type => Type, module => Module, priority => 5, health_check => true, config => Config},
            transport(#{type => Type})
        )
     || {Type, Module, Config} <- Expected
    ].

%% Every value that it says arrives, and what it does not say has its default.
shipped_file(_Config) ->
    {ok, File} = erlmcp_shm_test:project_file("config/claude_flow.config"),
    {ok, [[{erlmcp, [{claude_flow, Map}]}]]} = file:consult(File),
    Flow = #{transports := [Ws, Http, Stdio]} = flow(Map),
    ?assertMatch(
        #{
            enabled := true,
            auto_failover := true,
            multiplexing := false,
            health_check_interval := 30000,
            circuit_breaker := #{
                enabled := true, failure_threshold := 5, success_threshold := 2, timeout_ms := 30000
            },
            shared_memory := #{
                enabled := true,
                path := <<"/dev/shm/erlmcp_export.bin">>,
                size := 10485760,
                max_size := 83886080,
                flush_interval := 100
            }
        },
        Flow
    ),
    ?assertMatch(
        #{
            type := websocket,
            priority := 10,
            health_check := true,
            config := #{
                host := "localhost",
                port := 8080,
                path := "/mcp/ws",
                compression := permessage_deflate,
                batching := true,
                batch_config := #{max_batch_size := 50, max_batch_bytes := 32768, max_batch_delay_ms := 5}
            }
        },
        Ws
    ),
    ?assertMatch(
        #{
            type := http,
            priority := 8,
            health_check := true,
            config := #{host := "localhost", port := 8080, path := "/mcp", method := post, compression := gzip}
        },
        Http
    ),
    ?assertMatch(
        #{
            type := stdio,
            priority := 6,
            health_check := false,
            config := #{
                batching := true,
                batch_config := #{max_batch_size := 1000, max_batch_bytes := 1048576, max_batch_delay_ms := 1}
            }
        },
        Stdio
    ).

%% What was checked passes again, unchanged.
idempotent(_Config) ->
    Tls = #{certfile => "cert.pem", keyfile => "key.pem"},
    Flow = flow(#{
        shared_memory => true,
        owner => some_name,
        circuit_breaker => #{enabled => false},
        transports => [
            #{type => websocket, config => #{url => "wss://example.org:1/x", tls => Tls}},
            #{type => http, config => #{auth_token => "secret", allowed_origins => ["https://example.org"]}},
            #{type => sse, config => #{rate_limit => 10}},
            #{type => websocket, config => #{metrics_path => false}},
            #{type => http, config => #{metrics_path => <<"/figures">>}},
            #{type => stdio, module => own, config => #{anything => at_all}}
        ]
    }),
    ?assertEqual(Flow, flow(Flow)).

written_differently(_Config) ->
    ?assertMatch(#{host := "example.org", path := "/é"}, config(http, #{host => <<"example.org">>, path => <<"/é"/utf8>>})),
    ?assertMatch(#{host := "::1"}, config(sse, #{host => {0, 0, 0, 0, 0, 0, 0, 1}})),
    ?assertMatch(#{host := "127.0.0.1"}, config(sse, #{host => {127, 0, 0, 1}})),
    ?assertMatch(#{auth_token := <<"secret">>}, config(http, #{auth_token => "secret"})),
    ?assertMatch(#{allowed_origins := [<<"a">>, <<"b">>]}, config(websocket, #{allowed_origins => ["a", <<"b">>]})),
    ?assertMatch(#{port := 0}, config(websocket, #{port => 0})),
    ?assertMatch(#{compression := none}, config(websocket, #{compression => none})),
    Self = self(),
    ?assertMatch(#{io_device := Self}, config(stdio, #{io_device => Self})),
    {ok, Cwd} = file:get_cwd(),
    Cert = unicode:characters_to_binary(filename:join(Cwd, "cert.pem")),
    ?assertMatch(
        #{tls := #{certfile := Cert, keyfile := <<"/key.pem">>, verify := verify_none}},
        config(http, #{tls => #{certfile => "cert.pem", keyfile => "/key.pem"}})
    ),
    #{tls := Tls} = config(http, #{tls => #{certfile => "/c", keyfile => "/k", cacertfile => "/ca", password => <<"p">>}}),
    ?assertEqual(
        #{
            certfile => <<"/c">>,
            keyfile => <<"/k">>,
            cacertfile => <<"/ca">>,
            password => "p",
            verify => verify_peer,
            fail_if_no_peer_cert => true
        },
        Tls
    ),
    Handler = fun(_, _) -> {error, not_found} end,
    ?assertMatch(#{handler := Handler}, config(stdio, #{handler => Handler})),
    ?assertMatch(#{allowed_origins := any}, config(sse, #{allowed_origins => any})).

%%% What is not

refused(_Config) ->
    Bad = [
        {[auto_failover], 1},
        {[multiplexing], undefined},
        {[health_check_interval], 0},
        {[health_check_interval], "30s"},
        {[health_check_interval], 1 bsl 32},
        {[owner], "name"},
        {[transports], #{}},
        {[transports], undefined},
        {[transports], [a | b]},
        {[transport], []},
        {[circuit_breaker], 5},
        {[circuit_breaker, failure_threshold], 0},
        {[circuit_breaker, success_threshold], -1},
        {[circuit_breaker, timeout_ms], infinity},
        {[circuit_breaker, timeout], 30000},
        {[circuit_breaker, enabled], no}
    ],
    [
        begin
            Expected = {error, {bad_config, Path, Value}},
            Map = nested(Path, Value),
            ?assertEqual(Expected, ?C:claude_flow(Map)),
            ?assertEqual(Expected, erlmcp_claude_flow:start_link(Map))
        end
     || {Path, Value} <- Bad
    ].

nested([], Value) -> Value;
nested([Key | Path], Value) -> #{Key => nested(Path, Value)}.

refused_in_transports(_Config) ->
    Good = #{type => stdio},
    Bad = [
        {#{}, [type], undefined},
        {17, [], 17},
        {#{type => <<"stdio">>}, [type], <<"stdio">>},
        {#{type => tcp}, [type], tcp},
        {#{type => stdio, priority => 11}, [priority], 11},
        {#{type => stdio, priority => -1}, [priority], -1},
        {#{type => stdio, priority => 5.0}, [priority], 5.0},
        {#{type => stdio, health_check => 1}, [health_check], 1},
        {#{type => stdio, module => "m"}, [module], "m"},
        {#{type => stdio, name => x}, [name], x},
        {#{type => stdio, config => []}, [config], []},
        {#{type => stdio, module => own, config => []}, [config], []},
        {#{type => stdio, config => #{port => 1}}, [config, port], 1},
        {#{type => stdio, config => #{io_device => "x"}}, [config, io_device], "x"},
        {#{type => http, config => #{port => 65536}}, [config, port], 65536},
        {#{type => http, config => #{port => "8080"}}, [config, port], "8080"},
        {#{type => http, config => #{host => ""}}, [config, host], ""},
        {#{type => http, config => #{host => {1, 2, 3}}}, [config, host], {1, 2, 3}},
        {#{type => http, config => #{path => "mcp"}}, [config, path], "mcp"},
        {#{type => http, config => #{method => get}}, [config, method], get},
        {#{type => websocket, config => #{method => post}}, [config, method], post},
        {#{type => websocket, config => #{compression => gzip}}, [config, compression], gzip},
        {#{type => http, config => #{compression => permessage_deflate}}, [config, compression], permessage_deflate},
        {#{type => http, config => #{compression => true}}, [config, compression], true},
        {#{type => http, config => #{batching => 5}}, [config, batching], 5},
        {#{type => http, config => #{batch_config => true}}, [config, batch_config], true},
        {#{type => http, config => #{batch_config => #{size => 1}}}, [config, batch_config, size], 1},
        {#{type => http, config => #{batch_config => #{max_batch_size => 0}}}, [config, batch_config, max_batch_size], 0},
        {#{type => http, config => #{auth_token => ""}}, [config, auth_token], ""},
        {#{type => http, config => #{auth_token => secret}}, [config, auth_token], secret},
        {#{type => http, config => #{allowed_origins => "*"}}, [config, allowed_origins, 0], $*},
        {#{type => http, config => #{allowed_origins => all}}, [config, allowed_origins], all},
        {#{type => http, config => #{handler => "m"}}, [config, handler], "m"},
        {#{type => sse, config => #{session_timeout => 1}}, [config, session_timeout], 1},
        {#{type => sse, config => #{endpoint => no}}, [config, endpoint], no},
        {#{type => http, config => #{allowed_origins => [""]}}, [config, allowed_origins, 0], ""},
        {#{type => http, config => #{max_message_bytes => 0}}, [config, max_message_bytes], 0},
        {#{type => http, config => #{max_connections => infinity}}, [config, max_connections], infinity},
        {#{type => http, config => #{rate_limit => 0}}, [config, rate_limit], 0},
        {#{type => http, config => #{metrics_path => "metrics"}}, [config, metrics_path], "metrics"},
        {#{type => http, config => #{metrics_path => true}}, [config, metrics_path], true},
        {#{type => stdio, config => #{metrics_path => "/metrics"}}, [config, metrics_path], "/metrics"},
        {#{type => http, config => #{tls => true}}, [config, tls], true},
        {#{type => http, config => #{tls => #{}}}, [config, tls, certfile], undefined},
        {#{type => http, config => #{tls => #{certfile => "c"}}}, [config, tls, keyfile], undefined},
        {#{type => http, config => #{tls => #{certfile => "c", keyfile => "k", verify => x}}}, [config, tls, verify], x},
        {#{type => http, config => #{tls => #{certfile => "c", keyfile => "k", ciphers => x}}}, [config, tls, ciphers], x}
    ],
    [
        ?assertEqual(
            {error, {bad_config, [transports, 1 | Path], Value}}, ?C:claude_flow(#{transports => [Good, Transport]})
        )
     || {Transport, Path, Value} <- Bad
    ].

urls(_Config) ->
    Tls = #{certfile => "/c", keyfile => "/k"},
    Cases = [
        {http, "http://localhost:8080/mcp", #{}, {"localhost", 8080, "/mcp"}},
        {http, <<"http://example.org">>, #{}, {"example.org", 80, "/"}},
        {http, "https://example.org/a/b", #{tls => Tls}, {"example.org", 443, "/a/b"}},
        {sse, "http://127.0.0.1:1/x", #{}, {"127.0.0.1", 1, "/x"}},
        {websocket, "ws://[::1]:9/ws", #{}, {"::1", 9, "/ws"}},
        {websocket, "wss://example.org/", #{tls => Tls}, {"example.org", 443, "/"}}
    ],
    [
        begin
            Config = #{host := Host, port := Port, path := Path} = config(Type, More#{url => Url}),
            ?assertEqual({Url, Expected}, {Url, {Host, Port, Path}}),
            ?assertNot(is_map_key(url, Config))
        end
     || {Type, Url, More, Expected} <- Cases
    ].

refused_urls(_Config) ->
    Refused = fun(Type, Config, Key, Value) ->
        ?assertEqual(
            {error, {bad_config, [transports, 0, config, Key], Value}},
            ?C:claude_flow(#{transports => [#{type => Type, config => Config}]})
        )
    end,
    Bad = [
        "localhost:8080/mcp", "ftp://x/", "ws://x/", "http://", "http:///mcp", "http://u:p@x/", "http://x/?q", "http://x/#f",
        "http://x:port/", "https://x/", "", 17, undefined, "http://x:65536/\x{1}"
    ],
    [Refused(http, #{url => Url}, url, Url) || Url <- Bad],
    Refused(http, #{url => "http://x/", tls => #{certfile => "c", keyfile => "k"}}, url, "http://x/"),
    Refused(http, #{url => "http://x/", port => 1}, port, 1),
    Refused(http, #{url => "http://x/", host => "y"}, host, "y"),
    Refused(stdio, #{url => "http://x/"}, url, "http://x/").

twice_the_same(_Config) ->
    Again = #{type => stdio, priority => 1, config => #{batching => true}},
    ?assertEqual(
        {error, {bad_config, [transports, 2], Again}},
        ?C:claude_flow(#{transports => [#{type => stdio}, #{type => http}, Again]})
    ),
    Two = [#{type => http, config => #{port => Port}} || Port <- [1, 2]],
    ?assertMatch(#{transports := [_, _]}, flow(#{transports => Two})).

own_module(_Config) ->
    Config = #{anything => at_all},
    ?assertMatch(#{module := own, config := Config}, transport(#{type => http, module => own, config => Config})).

%%% Nodes of their own

starts_from_sys_config(Config) ->
    Peer = erlmcp_shm_test_peer:start(),
    Flow = #{
        shared_memory => shared(Config),
        transports => [own(websocket, 10, none), own(stdio, 6, erlmcp_shm_test_peer:port(Peer))]
    },
    in_node(Config, erlmcp, Flow, fun(Node) ->
        {ok, _} = call(Node, erlmcp_shm, start, []),
        ok = call(Node, erlmcp_claude_flow, send, [active, <<"from the node">>]),
        erlmcp_shm_test:eventually(fun() -> erlmcp_shm_test_peer:lines(Peer) =:= #{<<"from the node">> => 1} end),
        ?assertMatch(
            #{transport_type := websocket, active_connections := 1, shm_size_bytes := 1048576},
            call(Node, erlmcp_claude_flow, metrics, [])
        ),
        %% The exporter and the gateway do not depend on each other.
        Gateway = call(Node, erlang, whereis, [erlmcp_claude_flow]),
        Exporter = call(Node, erlang, whereis, [erlmcp_shm_exporter]),
        true = call(Node, erlang, exit, [Gateway, kill]),
        erlmcp_shm_test:eventually(fun() -> call(Node, erlmcp_claude_flow, send, [active, <<"again">>]) =:= ok end),
        ?assertNotEqual(Gateway, call(Node, erlang, whereis, [erlmcp_claude_flow])),
        ?assertEqual(Exporter, call(Node, erlang, whereis, [erlmcp_shm_exporter])),
        ok = call(Node, erlmcp_shm, stop, []),
        ?assertEqual({error, not_started}, call(Node, erlmcp_claude_flow, send, [active, <<"late">>]))
    end).

disabled(Config) ->
    Flow = #{enabled => false, shared_memory => shared(Config), transports => [own(websocket, 10, none)]},
    in_node(Config, erlmcp, Flow, fun(Node) ->
        {ok, _} = call(Node, erlmcp_shm, start, []),
        ?assertEqual([], call(Node, supervisor, which_children, [erlmcp_shm_sup])),
        ?assertEqual({error, not_started}, call(Node, erlmcp_claude_flow, send, [active, <<>>])),
        ?assertNot(filelib:is_file(erlmcp_shm_test:path(Config)))
    end).

refused_at_start(Config) ->
    Flow = #{shared_memory => shared(Config), transports => [#{type => http, config => #{prot => 8080}}]},
    in_node(Config, erlmcp_shm, Flow, fun(Node) ->
        ?assertMatch(
            {error, {erlmcp_shm, {{bad_config, [transports, 0, config, prot], 8080}, _}}}, call(Node, erlmcp_shm, start, [])
        ),
        ?assertNot(filelib:is_file(erlmcp_shm_test:path(Config)))
    end).

%% What the transports were given arrives before the node is gone.
stops_in_order(Config) ->
    Peer = erlmcp_shm_test_peer:start(),
    Flow = #{transports => [own(stdio, 6, erlmcp_shm_test_peer:port(Peer))]},
    Lines = [integer_to_binary(N) || N <- lists:seq(1, 1000)],
    in_node(Config, erlmcp_shm, Flow, fun(Node) ->
        {ok, _} = call(Node, erlmcp_shm, start, []),
        [] = [Line || Line <- Lines, ok =/= call(Node, erlmcp_claude_flow, send, [active, Line])],
        ok = call(Node, init, stop, [])
    end),
    Expected = maps:from_list([{Line, 1} || Line <- Lines]),
    erlmcp_shm_test:eventually(fun() -> erlmcp_shm_test_peer:lines(Peer) =:= Expected end).

own(Type, Priority, Port) ->
    #{
        type => Type,
        priority => Priority,
        module => erlmcp_shm_test_transport,
        config => #{type => Type, port => Port}
    }.

shared(Config) ->
    #{path => erlmcp_shm_test:path(Config), size => 1 bsl 20}.

in_node(Config, App, Flow, Fun) ->
    File = erlmcp_shm_test:path(Config) ++ ".config",
    ok = file:write_file(File, io_lib:format("~p.~n", [[{App, [{claude_flow, Flow}]}]])),
    Node = erlmcp_shm_test:start_node(["-config", filename:rootname(File)]),
    try
        Fun(Node)
    after
        %% One that fell has ended already.
        try
            peer:stop(Node)
        catch
            exit:_ -> ok
        end
    end.

call(Node, M, F, A) ->
    erlmcp_shm_test:call(Node, M, F, A).
