%% Streamable HTTP of both eras, and HTTP with server-sent events: real sockets and the bytes on them.
-module(erlmcp_shm_http_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(H, erlmcp_shm_transport_http).
-define(S, erlmcp_shm_transport_sse).
-define(W, erlmcp_shm_wire).

-define(JSON, {"content-type", "application/json"}).
-define(BOTH, {"accept", "application/json, text/event-stream"}).

all() ->
    [
        stateless,
        headers,
        tool_headers,
        listen,
        progress,
        disconnect_cancels,
        draining,
        session,
        session_stream,
        session_ends,
        gzip,
        limits,
        refusals,
        sse,
        sse_slow_client,
        three_on_one_port,
        metrics,
        metrics_of_several,
        metrics_by_any_token,
        http2
    ].

init_per_testcase(Case, Config) ->
    Named = [{case_name, Case} | Config],
    _ = erlmcp_shm_test:start(#{path => erlmcp_shm_test:path(Named), size => 1 bsl 20}),
    Named.

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop().

%%% 2026-07-28

stateless(_Config) ->
    {Transport, Port} = start(#{}),
    ok = erlmcp_shm_exporter:export_resource(<<"mem:λ"/utf8>>, <<"1">>, #{}),
    {200, #{<<"content-type">> := <<"application/json">>} = Headers, Body} = modern(Port, 1, <<"server/discover">>, #{}, []),
    ?assertEqual(false, is_map_key(<<"mcp-session-id">>, Headers)),
    ?assertMatch(#{<<"id">> := 1, <<"result">> := #{<<"resultType">> := <<"complete">>, <<"ttlMs">> := _}}, ?W:term(Body)),
    Encoded = ["=?base64?", base64:encode(<<"mem:λ"/utf8>>), "?="],
    {200, _, Read} = modern(Port, 2, <<"resources/read">>, #{uri => <<"mem:λ"/utf8>>}, [{"mcp-name", Encoded}]),
    ?assertMatch(#{<<"result">> := #{<<"contents">> := [#{<<"text">> := <<"1">>}]}}, ?W:term(Read)),
    {404, _, Unknown} = modern(Port, 3, <<"no/such">>, #{}, []),
    ?assertMatch(#{<<"id">> := 3, <<"error">> := #{<<"code">> := -32601}}, ?W:term(Unknown)),
    {404, _, _} = modern(Port, 3, <<"ping">>, #{}, []),
    %% Not a session either, for one who says that he needs none.
    {404, NoSession, _} = modern(Port, 3, <<"initialize">>, #{protocolVersion => <<"2026-07-28">>}, []),
    ?assertEqual(false, is_map_key(<<"mcp-session-id">>, NoSession)),
    %% Many on one connection.
    C = ?W:open(Port),
    lists:foldl(
        fun(Id, Conn) ->
            {Line, Given, Text} = modern_request(Id, <<"tools/list">>, #{}, []),
            ok = ?W:send(Conn, Line, Given, Text),
            {{200, _, Answer}, Next} = ?W:response(Conn),
            ?assertMatch(#{<<"id">> := Id}, ?W:term(Answer)),
            Next
        end,
        C,
        lists:seq(1, 200)
    ),
    %% Nothing stays behind of them.
    ?assertMatch(#{peers := 0, connections := 0}, ?H:get_info(Transport)),
    ?assertEqual({error, no_peer}, ?H:send(Transport, <<"{}">>)),
    {ok, _} = ?H:probe(Transport, 5000),
    {405, #{<<"allow">> := _}, _} = ?W:request(Port, "GET", "/mcp", [{"accept", "text/event-stream"}]),
    {405, _, _} = ?W:request(Port, "DELETE", "/mcp", []),
    {405, _, _} = ?W:request(Port, "PUT", "/mcp", [], <<"{}">>),
    ok = ?H:close(Transport).

%% Headers have to say what the body says.
headers(_Config) ->
    {Transport, Port} = start(#{}),
    Text = ?W:json(message(1, <<"resources/read">>, #{uri => <<"mem:a">>, '_meta' => meta()})),
    Right = [{"mcp-protocol-version", "2026-07-28"}, {"mcp-method", "resources/read"}, {"mcp-name", "mem:a"}],
    {200, _, _} = post(Port, Right, Text),
    Wrong =
        [lists:keydelete(Name, 1, Right) || {Name, _} <- Right] ++
            [lists:keyreplace(Name, 1, Right, {Name, Value}) || {Name, _} <- Right, Value <- ["other", "2025-11-25", "=?base64?bWVtOmI=?="]],
    [
        begin
            {400, _, Body} = post(Port, Headers, Text),
            ?assertMatch({Headers, #{<<"id">> := 1, <<"error">> := #{<<"code">> := -32020}}}, {Headers, ?W:term(Body)})
        end
     || Headers <- Wrong
    ],
    Old = ?W:json(message(1, <<"tools/list">>, #{'_meta' => (meta())#{<<"io.modelcontextprotocol/protocolVersion">> => <<"1900-01-01">>}})),
    {400, _, Unsupported} = post(Port, [{"mcp-protocol-version", "1900-01-01"}, {"mcp-method", "tools/list"}], Old),
    ?assertMatch(#{<<"error">> := #{<<"code">> := -32022, <<"data">> := #{<<"supported">> := [<<"2026-07-28">> | _]}}}, ?W:term(Unsupported)),
    {400, _, Lacking} = post(Port, [{"mcp-protocol-version", "2026-07-28"}, {"mcp-method", "tools/list"}], ?W:json(message(1, <<"tools/list">>, #{}))),
    ?assertMatch(#{<<"error">> := #{<<"code">> := -32602}}, ?W:term(Lacking)),
    {400, _, Parse} = post(Port, Right, <<"{">>),
    ?assertMatch(#{<<"error">> := #{<<"code">> := -32700}}, ?W:term(Parse)),
    {400, _, Array} = post(Port, Right, <<"[", Text/binary, "]">>),
    ?assertMatch(#{<<"error">> := #{<<"code">> := -32600}}, ?W:term(Array)),
    ok = ?H:close(Transport).

%% Parameters that a tool's schema wants in headers.
tool_headers(_Config) ->
    {Transport, Port} = start(#{handler => fun(_, _) -> {ok, <<"called">>} end}),
    ok = erlmcp_shm_exporter:export_tool_schema(
        <<"q">>,
        #{
            type => <<"object">>,
            properties => #{
                region => #{type => <<"string">>, 'x-mcp-header' => <<"Region">>},
                deep => #{type => <<"object">>, properties => #{n => #{type => <<"integer">>, 'x-mcp-header' => <<"N">>}}},
                free => #{type => <<"string">>}
            }
        },
        #{}
    ),
    Call = fun(Arguments, Headers) ->
        {Status, _, Body} = modern(Port, 1, <<"tools/call">>, #{name => <<"q">>, arguments => Arguments}, [{"mcp-name", "q"} | Headers]),
        {Status, ?W:term(Body)}
    end,
    {200, _} = Call(#{free => <<"x">>}, []),
    {200, _} = Call(#{region => <<"eu">>}, [{"mcp-param-region", "eu"}]),
    {200, _} = Call(#{region => null, deep => #{n => 42}}, [{"mcp-param-n", "42.0"}]),
    {400, #{<<"error">> := #{<<"code">> := -32020}}} = Call(#{region => <<"eu">>}, []),
    {400, _} = Call(#{region => <<"eu">>}, [{"mcp-param-region", "us"}]),
    {400, _} = Call(#{deep => #{n => 42}}, [{"mcp-param-n", "43"}]),
    ok = ?H:close(Transport).

%% A stream of changes, until the client closes it or the transport ends.
listen(_Config) ->
    {Transport, Port} = start(#{}),
    Filter = #{notifications => #{resourceSubscriptions => [<<"mem:a">>]}},
    {{200, #{<<"content-type">> := <<"text/event-stream">>, <<"x-accel-buffering">> := <<"no">>}}, C0} =
        streamed(Port, modern_request(<<"s">>, <<"subscriptions/listen">>, Filter, [])),
    {#{<<"method">> := <<"notifications/subscriptions/acknowledged">>}, C1} = heard(C0),
    ok = erlmcp_shm_exporter:export_resource(<<"mem:a">>, <<"1">>, #{}),
    {#{<<"method">> := <<"notifications/resources/updated">>, <<"params">> := #{<<"uri">> := <<"mem:a">>}}, C2} = heard(C1),
    %% It takes a place, and is nobody to send anything else to.
    ?assertMatch(#{peers := 0, connections := 1}, ?H:get_info(Transport)),
    ?assertEqual({error, no_peer}, ?H:send(Transport, <<"{}">>)),
    {{200, _}, Other} = streamed(Port, modern_request(1, <<"subscriptions/listen">>, Filter, [])),
    ok = gen_tcp:close(?W:socket(Other)),
    erlmcp_shm_test:eventually(fun() -> maps:get(connections, ?H:get_info(Transport)) =:= 1 end),
    ok = ?H:close(Transport),
    {#{<<"id">> := <<"s">>, <<"result">> := #{<<"resultType">> := <<"complete">>}}, C3} = heard(C2),
    {fin, _} = ?W:event(C3).

progress(_Config) ->
    {Transport, Port} = start(#{handler => fun(_, #{progress := Progress}) ->
        ok = Progress(1, undefined, undefined),
        {ok, <<"done">>}
    end}),
    Meta = (meta())#{<<"progressToken">> => 7},
    {{200, #{<<"content-type">> := <<"text/event-stream">>}}, C0} =
        streamed(Port, modern_request(1, <<"tools/call">>, #{name => <<"x">>, '_meta' => Meta}, [{"mcp-name", "x"}])),
    {#{<<"method">> := <<"notifications/progress">>, <<"params">> := #{<<"progressToken">> := 7}}, C1} = heard(C0),
    {#{<<"id">> := 1, <<"result">> := #{<<"content">> := _}}, C2} = heard(C1),
    {fin, _} = ?W:event(C2),
    %% Who asks for none gets plain JSON.
    {200, #{<<"content-type">> := <<"application/json">>}, _} = modern(Port, 1, <<"tools/call">>, #{name => <<"x">>}, [{"mcp-name", "x"}]),
    ok = ?H:close(Transport).

disconnect_cancels(_Config) ->
    Self = self(),
    {Transport, Port} = start(#{handler => fun(_, _) ->
        Self ! {worker, self()},
        timer:sleep(infinity)
    end}),
    C = ?W:open(Port),
    {Line, Headers, Text} = modern_request(1, <<"tools/call">>, #{name => <<"x">>}, [{"mcp-name", "x"}]),
    ok = ?W:send(C, Line, Headers, Text),
    Worker =
        receive
            {worker, Pid} -> Pid
        after 10000 -> error(not_called)
        end,
    Monitor = monitor(process, Worker),
    ok = gen_tcp:close(?W:socket(C)),
    receive
        {'DOWN', Monitor, process, Worker, _} -> ok
    after 10000 -> error(alive)
    end,
    erlmcp_shm_test:eventually(fun() -> maps:get(connections, ?H:get_info(Transport)) =:= 0 end),
    ok = ?H:close(Transport).

%% What is being worked at when the transport is closed is answered.
draining(_Config) ->
    Self = self(),
    {Transport, Port} = start(#{handler => fun(_, _) ->
        Self ! called,
        timer:sleep(500),
        {ok, <<"done">>}
    end}),
    Session = initialized(Port),
    Alone = ?W:open(Port),
    {Line, Headers, Text} = modern_request(1, <<"tools/call">>, #{name => <<"x">>}, [{"mcp-name", "x"}]),
    ok = ?W:send(Alone, Line, Headers, Text),
    InSession = ?W:open(Port),
    ok = ?W:send(InSession, "POST /mcp", [Session, ?JSON, ?BOTH], ?W:json(message(2, <<"tools/call">>, #{name => <<"x">>}))),
    [
        receive
            called -> ok
        after 10000 -> error(not_called)
        end
     || _ <- [1, 2]
    ],
    ok = ?H:close(Transport),
    {{200, _, One}, _} = ?W:response(Alone),
    ?assertMatch(#{<<"id">> := 1, <<"result">> := #{<<"content">> := _}}, ?W:term(One)),
    {{200, _, Two}, _} = ?W:response(InSession),
    ?assertMatch(#{<<"id">> := 2, <<"result">> := #{<<"content">> := _}}, ?W:term(Two)).

%%% Until 2025-11-25

session(_Config) ->
    {Transport, Port} = start(#{}),
    Session = initialized(Port),
    {202, _, <<>>} = post(Port, [Session], ?W:json(#{jsonrpc => <<"2.0">>, method => <<"notifications/initialized">>})),
    receive
        {transport_message, Transport, Text} -> ?assertMatch(#{<<"method">> := <<"notifications/initialized">>}, ?W:term(Text))
    after 10000 -> error(nothing)
    end,
    {200, _, Pong} = post(Port, [Session, {"mcp-protocol-version", "2025-11-25"}], ?W:json(message(2, <<"ping">>, #{}))),
    ?assertEqual(#{<<"jsonrpc">> => <<"2.0">>, <<"id">> => 2, <<"result">> => #{}}, ?W:term(Pong)),
    {200, _, List} = post(Port, [Session], ?W:json(message(3, <<"tools/list">>, #{}))),
    #{<<"result">> := Result} = ?W:term(List),
    ?assertEqual(false, is_map_key(<<"resultType">>, Result)),
    {200, _, Unknown} = post(Port, [Session], ?W:json(message(4, <<"no/such">>, #{}))),
    ?assertMatch(#{<<"error">> := #{<<"code">> := -32601}}, ?W:term(Unknown)),
    %% A response of the client's is nothing to answer.
    {202, _, <<>>} = post(Port, [Session], <<"{\"jsonrpc\":\"2.0\",\"id\":9,\"result\":{}}">>),
    {400, _, _} = post(Port, [], ?W:json(message(2, <<"ping">>, #{}))),
    {404, _, _} = post(Port, [{"mcp-session-id", "guess"}], ?W:json(message(2, <<"ping">>, #{}))),
    {400, _, _} = post(Port, [Session, {"mcp-protocol-version", "1900-01-01"}], ?W:json(message(2, <<"ping">>, #{}))),
    %% Two sessions know nothing of each other.
    Other = initialized(Port),
    ?assertNotEqual(Session, Other),
    {204, _, _} = ?W:request(Port, "DELETE", "/mcp", [Session]),
    {404, _, _} = post(Port, [Session], ?W:json(message(2, <<"ping">>, #{}))),
    {404, _, _} = ?W:request(Port, "DELETE", "/mcp", [Session]),
    {200, _, _} = post(Port, [Other], ?W:json(message(2, <<"ping">>, #{}))),
    ok = ?H:close(Transport).

%% What belongs to no request comes through the answer to a GET: changes, and what the transport sends.
session_stream(_Config) ->
    {Transport, Port} = start(#{batching => true, batch_config => #{max_batch_size => 3, max_batch_bytes => 100000, max_batch_delay_ms => 60000}}),
    Session = initialized(Port),
    {200, _, _} = post(Port, [Session], ?W:json(message(1, <<"resources/subscribe">>, #{uri => <<"mem:a">>}))),
    ?assertEqual({error, no_peer}, ?H:send(Transport, <<"{}">>)),
    %% Changes while nobody listens are told once, later.
    [ok = erlmcp_shm_exporter:export_resource(<<"mem:a">>, integer_to_binary(N), #{}) || N <- lists:seq(1, 10)],
    timer:sleep(100),
    {{200, #{<<"content-type">> := <<"text/event-stream">>}}, C0} = get_stream(Port, Session),
    {A, C1} = heard(C0),
    {B, C2} = heard(C1),
    ?assertEqual(
        [<<"notifications/resources/list_changed">>, <<"notifications/resources/updated">>],
        lists:sort([M || #{<<"method">> := M} <- [A, B]])
    ),
    ?assertMatch({{409, _}, _}, get_stream(Port, Session)),
    %% Three messages, one write, three events.
    [ok = ?H:send(Transport, ?W:json(#{n => N})) || N <- [1, 2, 3]],
    {Chunk, C3} = ?W:chunk(C2),
    ?assertEqual(
        <<"event: message\ndata: {\"n\":1}\n\nevent: message\ndata: {\"n\":2}\n\nevent: message\ndata: {\"n\":3}\n\n">>, Chunk
    ),
    %% Once it is gone another may come.
    ok = gen_tcp:close(?W:socket(C3)),
    erlmcp_shm_test:eventually(fun() -> maps:get(peers, ?H:get_info(Transport)) =:= 0 end),
    {{200, _}, C4} = get_stream(Port, Session),
    ok = erlmcp_shm_exporter:export_resource(<<"mem:a">>, <<"11">>, #{}),
    {#{<<"method">> := <<"notifications/resources/updated">>}, _} = heard(C4),
    ok = ?H:close(Transport).

session_ends(_Config) ->
    Self = self(),
    Handler = fun(_, #{progress := Progress}) ->
        Self ! called,
        ok = Progress(1, 2, undefined),
        timer:sleep(infinity)
    end,
    {Transport, Port} = start(#{session_timeout => 300, handler => Handler}),
    Session = initialized(Port),
    %% A call that its session cancels: the stream ends without an answer.
    Text = ?W:json(message(7, <<"tools/call">>, #{name => <<"x">>, '_meta' => #{progressToken => 1}})),
    {{200, #{<<"content-type">> := <<"text/event-stream">>}}, C0} = streamed(Port, {"POST /mcp", [Session, ?JSON, ?BOTH], Text}),
    {#{<<"method">> := <<"notifications/progress">>}, C1} = heard(C0),
    Cancel = ?W:json(#{jsonrpc => <<"2.0">>, method => <<"notifications/cancelled">>, params => #{requestId => 7}}),
    {202, _, _} = post(Port, [Session], Cancel),
    {fin, _} = ?W:event(C1),
    %% A session that nobody uses ends.
    erlmcp_shm_test:eventually(fun() -> maps:get(connections, ?H:get_info(Transport)) =:= 0 end),
    {404, _, _} = post(Port, [Session], ?W:json(message(2, <<"ping">>, #{}))),
    ok = ?H:close(Transport).

%%% What both have

%% Bodies both ways, and streams event by event; the bytes begin as gzip does.
gzip(_Config) ->
    {Transport, Port} = start(#{compression => gzip, max_message_bytes => 100000}),
    Long = binary:copy(<<"compressible ">>, 1000),
    ok = erlmcp_shm_exporter:export_resource(<<"mem:long">>, Long, #{}),
    {Line, Headers, Text} = modern_request(1, <<"resources/read">>, #{uri => <<"mem:long">>}, [{"mcp-name", "mem:long"}]),
    Ask = fun(More, Body) ->
        C = ?W:open(Port),
        ok = ?W:send(C, Line, More ++ Headers, Body),
        {Response, _} = ?W:response(C),
        Response
    end,
    {200, #{<<"content-encoding">> := <<"gzip">>, <<"vary">> := _}, <<31, 139, 8, _/binary>> = Zipped} =
        Ask([{"accept-encoding", "gzip"}, {"content-encoding", "gzip"}], zlib:gzip(Text)),
    ?assert(byte_size(Zipped) < byte_size(Long) div 10),
    ?assertMatch(#{<<"result">> := #{<<"contents">> := [#{<<"text">> := Long}]}}, ?W:term(zlib:gunzip(Zipped))),
    {200, Plain, _} = Ask([], Text),
    ?assertEqual(false, is_map_key(<<"content-encoding">>, Plain)),
    {200, Unwanted, _} = Ask([{"accept-encoding", "gzip;q=0, identity"}], Text),
    ?assertEqual(false, is_map_key(<<"content-encoding">>, Unwanted)),
    %% A few bytes that would be very many; bytes that are no gzip; an encoding that is none.
    {413, _, _} = Ask([{"content-encoding", "gzip"}], zlib:gzip(binary:copy(<<" ">>, 100 bsl 20))),
    {415, _, _} = Ask([{"content-encoding", "gzip"}], Text),
    {415, _, _} = Ask([{"content-encoding", "br"}], Text),
    %% A stream can be read event by event.
    {StreamLine, StreamHeaders, Listen} = modern_request(1, <<"subscriptions/listen">>, #{notifications => #{resourceSubscriptions => [<<"mem:a">>]}}, []),
    {{200, #{<<"content-encoding">> := <<"gzip">>}}, C0} = streamed(Port, {StreamLine, [{"accept-encoding", "gzip"} | StreamHeaders], Listen}),
    Z = zlib:open(),
    ok = zlib:inflateInit(Z, 31),
    {First, C1} = ?W:chunk(C0),
    ?assertMatch({_, _}, binary:match(iolist_to_binary(zlib:inflate(Z, First)), <<"acknowledged">>)),
    ok = erlmcp_shm_exporter:export_resource(<<"mem:a">>, <<"1">>, #{}),
    {Second, _} = ?W:chunk(C1),
    ?assertMatch({_, _}, binary:match(iolist_to_binary(zlib:inflate(Z, Second)), <<"resources/updated">>)),
    ok = zlib:close(Z),
    ok = ?H:close(Transport).

limits(_Config) ->
    {Transport, Port} = start(#{max_message_bytes => 1000, max_connections => 1}),
    {413, _, _} = post(Port, [], binary:copy(<<"1">>, 1001)),
    %% A body that does not say how long it is.
    C = ?W:open(Port),
    ok = ?W:send(C, "POST /mcp", [?JSON, ?BOTH, {"transfer-encoding", "chunked"}], <<>>),
    ok = gen_tcp:send(?W:socket(C), ["3e9\r\n", binary:copy(<<"1">>, 1001), "\r\n0\r\n\r\n"]),
    {{413, _, _}, _} = ?W:response(C),
    _ = initialized(Port),
    {503, _, _} = post(Port, [], ?W:json(message(1, <<"initialize">>, #{}))),
    %% Requests that are answered at once take no place.
    {200, _, _} = modern(Port, 1, <<"tools/list">>, #{}, []),
    {503, _, _} = modern(Port, 1, <<"subscriptions/listen">>, #{notifications => #{}}, []),
    ok = ?H:close(Transport),
    {Limited, LimitedPort} = start(#{rate_limit => 5}),
    Statuses = [element(1, modern(LimitedPort, N, <<"tools/list">>, #{}, [])) || N <- lists:seq(1, 60)],
    ?assertEqual([200, 429], lists:usort(Statuses)),
    ok = ?H:close(Limited).

refusals(_Config) ->
    {Transport, Port} = start(#{auth_token => "secret"}),
    Bearer = {"authorization", "Bearer secret"},
    Ping = ?W:json(message(1, <<"initialize">>, #{})),
    {401, #{<<"www-authenticate">> := <<"Bearer">>}, Body} = post(Port, [], Ping),
    ?assertMatch(#{<<"error">> := #{}}, ?W:term(Body)),
    {401, _, _} = post(Port, [{"authorization", "Bearer wrong"}], Ping),
    {200, _, _} = post(Port, [Bearer], Ping),
    {403, _, _} = post(Port, [Bearer, {"origin", "http://evil.example"}], Ping),
    {200, #{<<"access-control-allow-origin">> := <<"http://localhost:6274">>}, _} = post(Port, [Bearer, {"origin", "http://localhost:6274"}], Ping),
    {204, #{<<"access-control-allow-methods">> := _}, _} =
        ?W:request(Port, "OPTIONS", "/mcp", [{"origin", "http://localhost:6274"}, {"access-control-request-method", "POST"}]),
    {403, _, _} = ?W:request(Port, "OPTIONS", "/mcp", [{"origin", "http://evil.example"}, {"access-control-request-method", "POST"}]),
    {406, _, _} = ?W:request(Port, "POST", "/mcp", [Bearer, ?JSON, {"accept", "text/html"}], Ping),
    {415, _, _} = ?W:request(Port, "POST", "/mcp", [Bearer, ?BOTH, {"content-type", "text/plain"}], Ping),
    {404, _, _} = ?W:request(Port, "POST", "/elsewhere", [Bearer, ?JSON, ?BOTH], Ping),
    ok = ?H:close(Transport).

%%% HTTP with server-sent events

sse(_Config) ->
    {ok, Transport} = ?S:start_link(#{port => 0}, self()),
    #{port := Port} = ?S:get_info(Transport),
    {{{200, #{<<"content-type">> := <<"text/event-stream">>}}, C0}, Path} = sse_open(Port),
    Post = fun(Message) -> ?W:request(Port, "POST", binary_to_list(Path), [?JSON], ?W:json(Message)) end,
    {202, _, <<>>} = Post(message(1, <<"initialize">>, #{protocolVersion => <<"2024-11-05">>})),
    {#{<<"id">> := 1, <<"result">> := #{<<"protocolVersion">> := <<"2024-11-05">>}}, C1} = heard(C0),
    {202, _, <<>>} = Post(message(2, <<"resources/subscribe">>, #{uri => <<"mem:a">>})),
    {#{<<"id">> := 2}, C2} = heard(C1),
    ok = erlmcp_shm_exporter:export_resource(<<"mem:a">>, <<"1">>, #{}),
    {#{<<"method">> := _}, C3} = heard(C2),
    {#{<<"method">> := _}, C4} = heard(C3),
    ok = ?S:send(Transport, <<"{\"n\":1}">>),
    {#{<<"n">> := 1}, C5} = heard(C4),
    ?assertMatch(#{type := sse, peers := 1}, ?S:get_info(Transport)),
    {ok, _} = ?S:probe(Transport, 5000),
    {404, _, _} = ?W:request(Port, "POST", "/mcp/sse?sessionId=guess", [?JSON], <<"{}">>),
    {404, _, _} = ?W:request(Port, "POST", "/mcp/sse", [?JSON], <<"{}">>),
    {405, _, _} = ?W:request(Port, "DELETE", "/mcp/sse", []),
    ok = ?S:close(Transport),
    {fin, _} = ?W:event(C5).

sse_slow_client(_Config) ->
    {ok, Transport} = ?S:start_link(#{port => 0, max_queue_bytes => 1 bsl 20}, self()),
    #{port := Port} = ?S:get_info(Transport),
    {{{200, _}, C0}, _} = sse_open(Port),
    Message = ?W:json(#{pad => binary:copy(<<"x">>, 100000)}),
    N = until_no_peer(Transport, Message, 0),
    ct:pal("dropped after ~b messages of 100 kB", [N]),
    ?assert(N < 1000),
    ?assertMatch(#{peers := 0, dropped := 1}, ?S:get_info(Transport)),
    erlmcp_shm_test:eventually(fun() -> maps:get(connections, ?S:get_info(Transport)) =:= 0 end),
    ok = gen_tcp:close(?W:socket(C0)),
    ok = ?S:close(Transport).

until_no_peer(Transport, Message, N) when N < 1000 ->
    case ?S:send(Transport, Message) of
        ok -> until_no_peer(Transport, Message, N + 1);
        {error, no_peer} -> N
    end.

sse_open(Port) ->
    {Head, C0} = streamed(Port, {"GET /mcp/sse", [{"accept", "text/event-stream"}], <<>>}),
    {{<<"endpoint">>, Path}, C1} = ?W:event(C0),
    {{Head, C1}, Path}.

%% As the configuration of the specification has it, but for the port.
three_on_one_port(_Config) ->
    {Http, Port} = start(#{}),
    {ok, Ws} = erlmcp_shm_transport_ws:start_link(#{host => "localhost", port => Port, path => "/mcp/ws"}, self()),
    {ok, Sse} = ?S:start_link(#{host => "localhost", port => Port}, self()),
    {200, _, _} = modern(Port, 1, <<"tools/list">>, #{}, []),
    C = ?W:ws(Port, "/mcp/ws"),
    ok = ?W:ws_send(C, ?W:json(message(1, <<"ping">>, #{}))),
    {#{<<"id">> := 1}, _} = ?W:ws_text(C),
    {{{200, _}, _}, _} = sse_open(Port),
    [ok = erlmcp_shm_net:close(T) || T <- [Http, Ws, Sse]],
    erlmcp_shm_test:eventually(fun() -> gen_tcp:connect("127.0.0.1", Port, []) =:= {error, econnrefused} end).

%%% Figures

metrics(_Config) ->
    {_, Port} = start(#{auth_token => <<"t">>}),
    Authorized = [{"authorization", "Bearer t"}],
    {200, Headers, Text} = ?W:request(Port, "GET", "/metrics", Authorized),
    ?assertEqual(<<"text/plain; version=0.0.4; charset=utf-8">>, maps:get(<<"content-type">>, Headers)),
    ?assertMatch({match, _}, re:run(Text, "^erlmcp_claude_flow_shm_entries 0$", [multiline])),
    ?assertMatch({401, _, _}, ?W:request(Port, "GET", "/metrics", [])),
    ?assertMatch({405, #{<<"allow">> := <<"GET, HEAD">>}, _}, ?W:request(Port, "POST", "/metrics", Authorized)),
    {_, Elsewhere} = start(#{metrics_path => "/figures"}),
    ?assertMatch({200, _, _}, ?W:request(Elsewhere, "GET", "/figures", [])),
    ?assertMatch({404, _, _}, ?W:request(Elsewhere, "GET", "/metrics", [])),
    {_, Nowhere} = start(#{metrics_path => false}),
    ?assertMatch({404, _, _}, ?W:request(Nowhere, "GET", "/metrics", [])).

%% Whom one of the listener's transports lets in.
metrics_by_any_token(_Config) ->
    {Http, Port} = start(#{auth_token => <<"one">>, rate_limit => 1}),
    Status = fun(Headers) -> element(1, ?W:request(Port, "GET", "/metrics", Headers)) end,
    Bearer = fun(Token) -> [{"authorization", "Bearer " ++ Token}] end,
    {ok, Sse} = erlmcp_shm_transport_sse:start_link(
        #{port => Port, auth_token => "two", allowed_origins => ["https://graphs.example"]}, self()
    ),
    %% Without a token of its own, it takes none away.
    {ok, Ws} = erlmcp_shm_transport_ws:start_link(#{port => Port}, self()),
    ?assertEqual([401, 401, 200, 200], [Status(Headers) || Headers <- [[], Bearer("three"), Bearer("one"), Bearer("two")]]),
    ?assertEqual([200, 200, 403], [
        Status([{"origin", Origin} | Bearer("one")])
     || Origin <- ["https://graphs.example", "http://localhost:3000", "https://evil.example"]
    ]),
    %% Elsewhere, everybody's own.
    ?assertMatch({401, _, _}, ?W:request(Port, "GET", "/mcp/sse", Bearer("one"))),
    ok = erlmcp_shm_transport_sse:close(Sse),
    ?assertEqual([200, 401], [Status(Headers) || Headers <- [Bearer("one"), Bearer("two")]]),
    ok = ?H:close(Http),
    ?assertEqual(200, Status([])),
    ok = erlmcp_shm_transport_ws:close(Ws).

%% One path for all transports of a listener, as long as one of them is there, and not that of another thing.
metrics_of_several(_Config) ->
    {Http, Port} = start(#{}),
    Status = fun() -> element(1, ?W:request(Port, "GET", "/metrics", [])) end,
    {ok, Sse} = ?S:start_link(#{port => Port}, self()),
    ok = erlmcp_shm_net:close(Http),
    ?assertEqual(200, Status()),
    {ok, Ws} = erlmcp_shm_transport_ws:start_link(#{port => Port, metrics_path => false}, self()),
    ok = erlmcp_shm_net:close(Sse),
    ?assertEqual(404, Status()),
    {ok, Other} = ?S:start_link(#{port => Port}, self()),
    ?assertEqual(200, Status()),
    InUse = fun(Path) -> {error, {path_in_use, Port, Path}} end,
    ?assertEqual(InUse(<<"/metrics">>), ?H:start_link(#{port => Port, path => "/metrics"}, self())),
    ?assertEqual(InUse(<<"/mcp/ws">>), ?H:start_link(#{port => Port, metrics_path => "/mcp/ws"}, self())),
    ?assertEqual(InUse(<<"/m">>), ?H:start_link(#{port => Port, path => "/m", metrics_path => "/m"}, self())),
    {ok, After} = ?H:start_link(#{port => Port, path => "/m"}, self()),
    [ok = erlmcp_shm_net:close(T) || T <- [Ws, Other, After]].

%%% Helpers

%%% HTTP/2, by a client of somebody else's

%% By prior knowledge, and agreed on in TLS; an answer, and a stream of what happens later.
http2(Config) ->
    case curl() of
        {ok, Curl} ->
            Tls = ?W:certificate(proplists:get_value(priv_dir, Config)),
            over_http2(Curl, ["--http2-prior-knowledge"], "http", #{}),
            over_http2(Curl, ["--http2", "--insecure"], "https", #{tls => Tls}),
            %% Nobody has to.
            over_http(Curl, ["--http1.1"], "http", #{}, <<"1.1">>);
        error ->
            {skip, "SKIPPED: no curl that speaks HTTP/2"}
    end.

over_http2(Curl, Options, Scheme, Config) ->
    over_http(Curl, Options, Scheme, Config, <<"2">>).

over_http(Curl, Options, Scheme, Config, Version) ->
    {ok, Transport} = ?H:start_link(Config#{port => 0, path => "/mcp", compression => gzip}, self()),
    #{port := Port} = ?H:get_info(Transport),
    Url = lists:flatten(io_lib:format("~s://localhost:~b/mcp", [Scheme, Port])),
    ok = erlmcp_shm_exporter:export_resource(<<"mem:a">>, binary:copy(<<"long enough ">>, 1000), #{}),
    Ask = fun(Method, Params, More) ->
        {_, Headers, Text} = modern_request(1, Method, Params, []),
        Named = lists:append([["-H", iolist_to_binary([Name, ": ", Value])] || {Name, Value} <- Headers]),
        More ++ Options ++ ["--silent", "--noproxy", "*"] ++ Named ++ ["--data-binary", Text, Url]
    end,
    Read = Ask(<<"resources/read">>, #{uri => <<"mem:a">>}, ["--compressed", "-H", "mcp-name: mem:a", "-w", "\n%{http_version} %{http_code}"]),
    {0, Said} = erlmcp_shm_test:run(Curl, Read),
    [Body, End] = binary:split(Said, <<"\n">>),
    ?assertEqual(<<Version/binary, " 200">>, End),
    ?assertMatch(#{<<"result">> := #{<<"contents">> := [#{<<"text">> := <<"long", _/binary>>}]}}, ?W:term(Body)),
    Listen = Ask(<<"subscriptions/listen">>, #{notifications => #{resourcesListChanged => true}}, ["--no-buffer"]),
    Stream = open_port({spawn_executable, Curl}, [{args, Listen}, {line, 10000}, binary, exit_status]),
    #{<<"method">> := <<"notifications/subscriptions/acknowledged">>} = data(Stream),
    ok = erlmcp_shm_exporter:export_resource(list_to_binary(Url), <<"new">>, #{}),
    #{<<"method">> := <<"notifications/resources/list_changed">>} = data(Stream),
    ok = ?H:close(Transport),
    #{<<"result">> := #{<<"resultType">> := <<"complete">>}} = data(Stream),
    receive
        {Stream, {exit_status, Status}} -> ?assertEqual(0, Status)
    after 10000 -> error(no_end)
    end.

%% The next event's message.
data(Stream) ->
    receive
        {Stream, {data, {eol, <<"data: ", Json/binary>>}}} -> ?W:term(Json);
        {Stream, {data, {eol, _}}} -> data(Stream)
    after 10000 -> error(silent)
    end.

curl() ->
    case os:find_executable("curl") of
        false ->
            error;
        Curl ->
            {0, Version} = erlmcp_shm_test:run(Curl, ["--version"]),
            case binary:match(Version, <<"HTTP2">>) of
                nomatch -> error;
                _ -> {ok, Curl}
            end
    end.

start(Config) ->
    {ok, Transport} = ?H:start_link(Config#{url => <<"http://localhost:0/mcp">>}, self()),
    #{port := Port} = ?H:get_info(Transport),
    {Transport, Port}.

message(Id, Method, Params) ->
    #{jsonrpc => <<"2.0">>, id => Id, method => Method, params => Params}.

meta() ->
    #{<<"io.modelcontextprotocol/protocolVersion">> => <<"2026-07-28">>, <<"io.modelcontextprotocol/clientCapabilities">> => #{}}.

modern(Port, Id, Method, Params, Headers) ->
    {Line, All, Text} = modern_request(Id, Method, Params, Headers),
    C = ?W:open(Port),
    ok = ?W:send(C, Line, All, Text),
    {Response, _} = ?W:response(C),
    Response.

modern_request(Id, Method, Params, Headers) ->
    Text = ?W:json(message(Id, Method, maps:merge(#{'_meta' => meta()}, Params))),
    {"POST /mcp", [?JSON, ?BOTH, {"mcp-protocol-version", "2026-07-28"}, {"mcp-method", Method} | Headers], Text}.

post(Port, Headers, Text) ->
    ?W:request(Port, "POST", "/mcp", [?JSON, ?BOTH | Headers], Text).

initialized(Port) ->
    {200, #{<<"mcp-session-id">> := Id}, Body} = post(Port, [], ?W:json(message(1, <<"initialize">>, #{protocolVersion => <<"2025-11-25">>}))),
    ?assertMatch(#{<<"id">> := 1, <<"result">> := #{<<"protocolVersion">> := <<"2025-11-25">>}}, ?W:term(Body)),
    {"mcp-session-id", Id}.

get_stream(Port, Session) ->
    streamed(Port, {"GET /mcp", [Session, {"accept", "text/event-stream"}], <<>>}).

%% The head of a response whose body goes on.
streamed(Port, {Line, Headers, Text}) ->
    C = ?W:open(Port),
    ok = ?W:send(C, Line, Headers, Text),
    ?W:head(C).

heard(Conn) ->
    {{<<"message">>, Data}, Next} = ?W:event(Conn),
    {?W:term(Data), Next}.
