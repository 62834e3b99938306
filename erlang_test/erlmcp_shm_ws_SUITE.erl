%% WebSocket, and what all network transports share: real sockets and the bytes on them.
-module(erlmcp_shm_ws_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(T, erlmcp_shm_transport_ws).
-define(W, erlmcp_shm_wire).

all() ->
    [
        session,
        sending,
        batches,
        deflate,
        compressed_and_large,
        unpacked_too_large,
        control_frames,
        violations,
        streams_that_end,
        tiny_frames,
        slow_client,
        refusals,
        limits,
        rate,
        draining,
        killed,
        one_listener,
        listener_gone,
        changes_gone,
        tls,
        no_cowboy,
        gateway_without_cowboy,
        many
    ].

init_per_testcase(Case, Config) ->
    Named = [{case_name, Case} | Config],
    _ = erlmcp_shm_test:start(#{path => erlmcp_shm_test:path(Named), size => 1 bsl 20}),
    Named.

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop().

session(_Config) ->
    {Transport, Port} = start(#{}),
    ?assertMatch(#{type := websocket, peers := 0, ip := {127, 0, 0, 1}}, ?T:get_info(Transport)),
    {{101, Headers}, C0} = ?W:ws(Port, "/mcp/ws", [{"sec-websocket-protocol", "mcp"}]),
    ?assertMatch(#{<<"sec-websocket-protocol">> := <<"mcp">>}, Headers),
    ok = ?W:ws_send(C0, request(1, <<"initialize">>, #{protocolVersion => <<"2025-11-25">>})),
    {#{<<"id">> := 1, <<"result">> := #{<<"protocolVersion">> := _}}, C1} = ?W:ws_text(C0),
    ok = ?W:ws_send(C1, request(2, <<"resources/subscribe">>, #{uri => <<"mem:a">>})),
    {#{<<"id">> := 2}, C2} = ?W:ws_text(C1),
    ok = erlmcp_shm_exporter:export_resource(<<"mem:a">>, <<"1">>, #{}),
    {A, C3} = ?W:ws_text(C2),
    {B, C4} = ?W:ws_text(C3),
    ?assertEqual(
        [<<"notifications/resources/list_changed">>, <<"notifications/resources/updated">>],
        lists:sort([M || #{<<"method">> := M} <- [A, B]])
    ),
    ok = ?W:ws_send(C4, modern(3, <<"resources/read">>, #{uri => <<"mem:a">>})),
    {#{<<"id">> := 3, <<"result">> := #{<<"contents">> := [#{<<"text">> := <<"1">>}]}}, C5} = ?W:ws_text(C4),
    Report = ?W:json(#{jsonrpc => <<"2.0">>, method => <<"notifications/erlmcp/client_metrics">>, params => #{reads => 3}}),
    ok = ?W:ws_send(C5, Report),
    receive
        {transport_message, Transport, Heard} -> ?assertEqual(Report, Heard)
    after 10000 -> error(nothing)
    end,
    ?assertMatch(#{peers := 1, client_metrics := [#{<<"reads">> := 3}]}, ?T:get_info(Transport)),
    {ok, Ms} = ?T:probe(Transport, 5000),
    ?assert(is_float(Ms)),
    ok = ?T:close(Transport).

sending(_Config) ->
    {Transport, Port} = start(#{}),
    ?assertEqual({error, no_peer}, ?T:send(Transport, <<"{}">>)),
    Conns = [?W:ws(Port, "/mcp/ws") || _ <- lists:seq(1, 3)],
    peers(3, Transport),
    ok = ?T:send(Transport, ["{\"a\"", ":1}"]),
    [?assertMatch({#{<<"a">> := 1}, _}, ?W:ws_text(C)) || C <- Conns],
    ok = ?T:close(Transport),
    ?assertEqual({error, closed}, ?T:send(Transport, <<"{}">>)),
    ?assertEqual({error, closed}, ?T:probe(Transport, 1000)).

%% So many messages are one write of the node's, and each is a frame of its own.
batches(_Config) ->
    {Transport, Port} = start(batching(20)),
    C0 = ?W:ws(Port, "/mcp/ws"),
    peers(1, Transport),
    Before = writes(C0),
    [ok = ?T:send(Transport, ?W:json(#{n => N})) || N <- lists:seq(1, 60)],
    C1 = lists:foldl(
        fun(N, C) ->
            {#{<<"n">> := N}, Next} = ?W:ws_text(C),
            Next
        end,
        C0,
        lists:seq(1, 60)
    ),
    ?assertEqual(3, writes(C1) - Before),
    %% An answer waits for no batch, and what was sent before it comes before it.
    ok = ?T:send(Transport, ?W:json(#{n => 61})),
    erlmcp_shm_test:eventually(fun() -> maps:get(queued_bytes, ?T:get_info(Transport)) =:= 0 end),
    ok = ?W:ws_send(C1, request(1, <<"ping">>, #{})),
    {#{<<"n">> := 61}, C2} = ?W:ws_text(C1),
    {#{<<"id">> := 1}, _} = ?W:ws_text(C2),
    ok = ?T:close(Transport).

%% How often the node has written to the other end of this connection.
writes(Conn) ->
    {ok, Here} = inet:sockname(?W:socket(Conn)),
    [Port] = [P || P <- erlang:ports(), inet:peername(P) =:= {ok, Here}],
    {ok, [{send_cnt, N}]} = inet:getstat(Port, [send_cnt]),
    N.

%% RFC 7692: what is said about compression at the start, and the compressed bytes themselves, both ways.
deflate(_Config) ->
    {Transport, Port} = start(#{compression => permessage_deflate}),
    Offer = [{"sec-websocket-extensions", "permessage-deflate"}],
    {{101, Headers}, C0} = ?W:ws(Port, "/mcp/ws", Offer),
    ?assertMatch(#{<<"sec-websocket-extensions">> := <<"permessage-deflate", _/binary>>}, Headers),
    Long = binary:copy(<<"compressible ">>, 1000),
    ok = erlmcp_shm_exporter:export_resource(<<"mem:long">>, Long, #{}),
    %% RSV1 says that the payload is compressed.
    ok = ?W:ws_send(C0, {2#1100, 1, ?W:zip(modern(1, <<"resources/read">>, #{uri => <<"mem:long">>}))}),
    {{2#1100, 1, Payload}, C1} = ?W:ws_frame(C0),
    ?assert(byte_size(Payload) < byte_size(Long) div 10),
    Z = zlib:open(),
    ok = zlib:inflateInit(Z, -15),
    Plain = iolist_to_binary(zlib:inflate(Z, <<Payload/binary, 0, 0, 255, 255>>)),
    ?assertMatch(#{<<"id">> := 1, <<"result">> := #{<<"contents">> := [#{<<"text">> := Long}]}}, ?W:term(Plain)),
    %% The second message goes on with the window of the first.
    ok = ?W:ws_send(C1, {2#1000, 1, modern(2, <<"tools/list">>, #{})}),
    {{2#1100, 1, Second}, _} = ?W:ws_frame(C1),
    ?assertMatch(#{<<"id">> := 2}, ?W:term(iolist_to_binary(zlib:inflate(Z, <<Second/binary, 0, 0, 255, 255>>)))),
    ok = zlib:close(Z),
    %% Not without the option.
    {Plainly, PlainPort} = start(#{}),
    {{101, Without}, _} = ?W:ws(PlainPort, "/mcp/ws", Offer),
    ?assertEqual(false, is_map_key(<<"sec-websocket-extensions">>, Without)),
    ok = ?T:close(Plainly),
    ok = ?T:close(Transport).

%% As large as messages may be, both ways: what compresses well, what grows by it, in one frame and in many. What goes out
%% has no bound.
compressed_and_large(Config) ->
    {Transport, Port} = start(#{compression => permessage_deflate}),
    {{101, _}, C0} = ?W:ws(Port, "/mcp/ws", [{"sec-websocket-extensions", "permessage-deflate"}]),
    Max = 4194304,
    Compressible = binary:copy(<<"compressible ">>, Max div 13 - 20),
    Random = base64:encode(crypto:strong_rand_bytes(Max * 3 div 4 - 500)),
    ok = erlmcp_shm_test:stop(),
    _ = erlmcp_shm_test:start(#{path => filename:join(proplists:get_value(priv_dir, Config), "large.shm"), size => 1 bsl 26}),
    Z = zlib:open(),
    ok = zlib:inflateInit(Z, -15),
    Both = [{Text, Frames} || Text <- [Compressible, Random], Frames <- [1, 2, 1000]],
    _ = lists:foldl(
        fun({Text, Frames}, C) ->
            ok = erlmcp_shm_exporter:export_resource(<<"mem:large">>, Text, #{}),
            Long = request(1, <<"ping">>, #{pad => Text}),
            ?assert(byte_size(Long) =< Max andalso byte_size(Long) > Max - 1000),
            ok = in_frames(C, ?W:zip(Long), Frames),
            {{2#1100, 1, Pong}, C1} = ?W:ws_frame(C),
            ?assertMatch(#{<<"id">> := 1, <<"result">> := _}, unzip(Z, Pong)),
            ok = ?W:ws_send(C1, modern(2, <<"resources/read">>, #{uri => <<"mem:large">>})),
            {{2#1100, 1, Read}, C2} = ?W:ws_frame(C1),
            ?assertMatch(#{<<"id">> := 2, <<"result">> := #{<<"contents">> := [#{<<"text">> := Text}]}}, unzip(Z, Read)),
            C2
        end,
        C0,
        Both
    ),
    ok = zlib:close(Z),
    ok = ?T:close(Transport).

unzip(Z, Payload) ->
    ?W:term(iolist_to_binary(zlib:inflate(Z, <<Payload/binary, 0, 0, 255, 255>>))).

%% The first one says that all are compressed; the last one says that it is the last.
in_frames(C, Payload, 1) ->
    ?W:ws_send(C, {2#1100, 1, Payload});
in_frames(C, Payload, N) ->
    Size = byte_size(Payload) div N,
    <<First:Size/binary, Rest/binary>> = Payload,
    ok = ?W:ws_send(C, {2#0100, 1, First}),
    more_frames(C, Rest, Size, N - 2).

more_frames(C, Last, _, 0) ->
    ?W:ws_send(C, {2#1000, 0, Last});
more_frames(C, Payload, Size, N) ->
    <<Part:Size/binary, Rest/binary>> = Payload,
    ok = ?W:ws_send(C, {2#0000, 0, Part}),
    more_frames(C, Rest, Size, N - 1).

%% A few bytes that would be very many are unpacked as far as a message may go, and not further: the node's memory
%% says so. Whatever else cannot be a message is closed with a reason, too.
unpacked_too_large(_Config) ->
    {Transport, Port} = start(#{compression => permessage_deflate}),
    Offer = [{"sec-websocket-extensions", "permessage-deflate"}],
    %% In a process of its own, so that what it is made of is gone when the watch begins.
    Self = self(),
    {Maker, Made} = spawn_monitor(fun() -> Self ! {bomb, ?W:zip(binary:copy(<<"0">>, 1 bsl 30))} end),
    Bomb =
        receive
            {bomb, Zipped} -> Zipped
        end,
    receive
        {'DOWN', Made, process, Maker, normal} -> ok
    end,
    ?assert(byte_size(Bomb) < 4194304),
    _ = [erlang:garbage_collect(Process) || Process <- processes()],
    Watch = spawn_link(fun() -> watch(erlang:memory(total), 0) end),
    Refused = fun(Send, Code) ->
        {{101, _}, C} = ?W:ws(Port, "/mcp/ws", Offer),
        ok = Send(C),
        ?assertEqual(Code, close_code(C))
    end,
    [Refused(fun(C) -> sent(in_frames(C, Bomb, Frames)) end, 1009) || Frames <- [1, 10]],
    Watch ! {most, self()},
    receive
        {most, Most} -> ?assert(Most < 200 bsl 20, Most)
    after 10000 -> error(silent)
    end,
    %% Not watched: masking so much takes this client more than it takes the node.
    [
        Refused(Send, Code)
     || {Send, Code} <- [
            {fun(C) -> ?W:ws_send(C, {2#1000, 1, binary:copy(<<"1">>, 4194305)}) end, 1009},
            {fun(C) -> sent(in_frames(C, binary:copy(<<"x">>, 5000000), 1)) end, 1009},
            {fun(C) -> ?W:ws_send(C, {2#1100, 1, <<0, 1, 2, 3, 4, 5, 6>>}) end, 1007},
            {fun(C) -> ?W:ws_send(C, {2#1000, 1, <<255, 255>>}) end, 1007},
            {fun(C) -> ?W:ws_send(C, {2#1010, 1, <<"{}">>}) end, 1002},
            {fun(C) -> ?W:ws_send(C, {2#1000, 0, <<"{}">>}) end, 1002}
        ]
    ],
    peers(0, Transport),
    ok = ?T:close(Transport).

%% The other end may have closed before all of it was written.
sent(ok) -> ok;
sent({error, Reason}) when Reason =:= closed; Reason =:= econnreset; Reason =:= epipe -> ok.

%% How much more memory there was than at first, at most.
watch(First, Most) ->
    receive
        {most, Asking} -> Asking ! {most, Most}
    after 1 -> watch(First, max(Most, erlang:memory(total) - First))
    end.

%% They may stand between the frames of a message, and come in pieces.
control_frames(_Config) ->
    {Transport, Port} = start(#{compression => permessage_deflate}),
    C0 = ?W:ws(Port, "/mcp/ws"),
    Text = request(1, <<"ping">>, #{}),
    ok = ?W:ws_send(C0, {2#0000, 1, binary:part(Text, 0, 10)}),
    ok = ?W:ws_send(C0, {2#1000, 9, <<"are you there">>}),
    {{2#1000, 10, <<"are you there">>}, C1} = ?W:ws_frame(C0),
    ok = ?W:ws_send(C1, {2#1000, 0, binary:part(Text, 10, byte_size(Text) - 10)}),
    {#{<<"id">> := 1}, C2} = ?W:ws_text(C1),
    %% Masked with zeros, byte by byte.
    [
        begin
            ok = gen_tcp:send(?W:socket(C2), <<Byte>>),
            timer:sleep(2)
        end
     || <<Byte>> <= <<1:1, 0:3, 9:4, 1:1, 2:7, 0:32, "hi", 1:1, 0:3, 1:4, 1:1, (byte_size(Text)):7, 0:32, Text/binary>>
    ],
    {{2#1000, 10, <<"hi">>}, C3} = ?W:ws_frame(C2),
    {#{<<"id">> := 1}, C4} = ?W:ws_text(C3),
    %% Unmasked is nobody's right.
    ok = ?W:ws_send(C4, {2#1000, 8, <<1001:16>>}),
    ?assertEqual(1001, close_code(C4)),
    D = ?W:ws(Port, "/mcp/ws"),
    ok = gen_tcp:send(?W:socket(D), <<1:1, 0:3, 1:4, 0:1, 2:7, "{}">>),
    ?assertEqual(1002, close_code(D)),
    ok = ?T:close(Transport).

%% What the RFCs let no client send: codes that are not for sending, a reason that is no text, control frames and later
%% frames that say that they are compressed.
violations(_Config) ->
    {Transport, Port} = start(#{compression => permessage_deflate}),
    Offer = [{"sec-websocket-extensions", "permessage-deflate"}],
    Close = fun(Payload) -> [{2#1000, 8, Payload}] end,
    [
        begin
            {{101, _}, C} = ?W:ws(Port, "/mcp/ws", Offer),
            [ok = ?W:ws_send(C, Frame) || Frame <- Frames],
            ?assertEqual({Frames, Code}, {Frames, close_code(C)})
        end
     || {Frames, Code} <-
            [{Close(<<Code:16>>), 1002} || Code <- [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535]] ++
                [{Close(<<Code:16, "bye">>), Code} || Code <- [1000, 1003, 1007, 1011, 1014, 3000, 4999]] ++
                [
                    {Close(<<1000:16, 255>>), 1007},
                    {[{2#1100, 8, <<1000:16>>}], 1002},
                    {[{2#1100, 9, <<"ping">>}], 1002},
                    {[{2#0100, 1, <<>>}, {2#1100, 9, <<>>}], 1002},
                    {[{2#0100, 1, <<>>}, {2#1100, 0, <<>>}], 1002},
                    {[{2#0000, 1, <<>>}, {2#1100, 0, <<>>}], 1002}
                ]
    ],
    ok = ?T:close(Transport).

%% Each message a stream of its own (RFC 7692, 7.2.3.4), and then ones that are not.
streams_that_end(_Config) ->
    {Transport, Port} = start(#{compression => permessage_deflate}),
    {{101, _}, C0} = ?W:ws(Port, "/mcp/ws", [{"sec-websocket-extensions", "permessage-deflate"}]),
    _ = lists:foldl(
        fun(Id, C) ->
            Text = request(Id, <<"ping">>, #{}),
            Payload =
                case Id < 4 of
                    true -> <<(zlib:zip(Text))/binary, 0>>;
                    false -> ?W:zip(Text)
                end,
            ok = ?W:ws_send(C, {2#1100, 1, Payload}),
            {{2#1100, 1, _}, Next} = ?W:ws_frame(C),
            Next
        end,
        C0,
        lists:seq(1, 6)
    ),
    ok = ?T:close(Transport).

%% A message in frames of a byte each takes what its bytes take.
tiny_frames(_Config) ->
    {Transport, Port} = start(#{}),
    C0 = ?W:ws(Port, "/mcp/ws"),
    Before = erlang:memory(processes),
    ok = ?W:ws_send(C0, {2#0000, 1, <<" ">>}),
    ok = gen_tcp:send(?W:socket(C0), binary:copy(<<0:4, 0:4, 1:1, 1:7, 0:32, " ">>, 500000)),
    ok = ?W:ws_send(C0, {2#1000, 9, <<"all of them">>}),
    {{2#1000, 10, <<"all of them">>}, C1} = ?W:ws_frame(C0),
    Grown = erlang:memory(processes) - Before,
    ?assert(Grown < 10 bsl 20, Grown),
    ok = ?W:ws_send(C1, {2#1000, 0, request(1, <<"ping">>, #{})}),
    {#{<<"id">> := 1}, _} = ?W:ws_text(C1),
    ok = ?T:close(Transport).

%% One that reads nothing is dropped once it has had its share; the other goes on and misses nothing.
slow_client(_Config) ->
    {Transport, Port} = start(#{max_queue_bytes => 1 bsl 20}),
    Slow = ?W:ws(Port, "/mcp/ws"),
    Quick = ?W:ws(Port, "/mcp/ws"),
    peers(2, Transport),
    Pad = binary:copy(<<"x">>, 100000),
    {N, Queued} = until_dropped(Transport, Quick, Pad, 1, 0),
    ?assert(Queued =< 2 bsl 20),
    ?assertMatch(#{peers := 1, dropped := 1}, ?T:get_info(Transport)),
    %% Its connection is closed for it, though it still does not read.
    erlmcp_shm_test:eventually(fun() -> maps:get(connections, ?T:get_info(Transport)) =:= 1 end),
    ct:pal("dropped after ~b messages of 100 kB, ~b bytes queued at most", [N, Queued]),
    ok = gen_tcp:close(?W:socket(Slow)),
    ok = ?T:close(Transport).

until_dropped(Transport, Quick, Pad, N, Most) when N < 1000 ->
    ok = ?T:send(Transport, ?W:json(#{n => N, pad => Pad})),
    {#{<<"n">> := N}, Next} = ?W:ws_text(Quick),
    case ?T:get_info(Transport) of
        #{dropped := 1} -> {N, Most};
        #{queued_bytes := Queued} -> until_dropped(Transport, Next, Pad, N + 1, max(Queued, Most))
    end.

refusals(_Config) ->
    {Transport, Port} = start(#{auth_token => <<"secret">>, allowed_origins => ["https://ok.example"]}),
    Bearer = {"authorization", "Bearer secret"},
    {{401, #{<<"www-authenticate">> := <<"Bearer">>}}, _} = ?W:ws(Port, "/mcp/ws", []),
    {{401, _}, _} = ?W:ws(Port, "/mcp/ws", [{"authorization", "Bearer secret2"}]),
    {{401, _}, _} = ?W:ws(Port, "/mcp/ws", [{"authorization", "Basic secret"}]),
    {{403, _}, _} = ?W:ws(Port, "/mcp/ws", [Bearer, {"origin", "https://evil.example"}]),
    {{403, _}, _} = ?W:ws(Port, "/mcp/ws", [Bearer, {"origin", "null"}]),
    {{404, _}, _} = ?W:ws(Port, "/other", [Bearer]),
    {{101, _}, _} = ?W:ws(Port, "/mcp/ws", [Bearer, {"origin", "https://ok.example"}]),
    {{101, _}, _} = ?W:ws(Port, "/mcp/ws", [{"authorization", "bearer secret"}]),
    {ok, _} = ?T:probe(Transport, 5000),
    ok = ?T:close(Transport),
    %% By default: pages of this host, and programs.
    {Local, LocalPort} = start(#{}),
    {{403, _}, _} = ?W:ws(LocalPort, "/mcp/ws", [{"origin", "http://localhost.evil.example"}]),
    {{101, _}, _} = ?W:ws(LocalPort, "/mcp/ws", [{"origin", "http://localhost:3000"}]),
    ok = ?T:close(Local).

limits(_Config) ->
    {Transport, Port} = start(#{max_message_bytes => 1000, max_connections => 2}),
    C = ?W:ws(Port, "/mcp/ws"),
    ok = ?W:ws_send(C, binary:copy(<<"1">>, 1001)),
    ?assertEqual(1009, close_code(C)),
    D = ?W:ws(Port, "/mcp/ws"),
    ok = ?W:ws_send(D, {2#1000, 2, <<"{}">>}),
    ?assertEqual(1003, close_code(D)),
    peers(0, Transport),
    Two = [?W:ws(Port, "/mcp/ws") || _ <- [1, 2]],
    peers(2, Transport),
    {{503, _}, _} = ?W:ws(Port, "/mcp/ws", []),
    [ok = gen_tcp:close(?W:socket(One)) || One <- Two],
    peers(0, Transport),
    _ = ?W:ws(Port, "/mcp/ws"),
    ok = ?T:close(Transport).

rate(_Config) ->
    {Transport, Port} = start(#{rate_limit => 10}),
    C = ?W:ws(Port, "/mcp/ws"),
    ?assert(pings(C, 0) >= 9),
    ok = ?T:close(Transport).

%% How many are answered before the connection is closed for it. (The upgrade itself was a request, too.)
pings(Conn, N) when N < 1000 ->
    ok = ?W:ws_send(Conn, request(N, <<"ping">>, #{})),
    case ?W:ws_frame(Conn) of
        {{2#1000, 1, _}, Next} ->
            pings(Next, N + 1);
        {{2#1000, 8, <<Code:16, _/binary>>}, _} ->
            ?assertEqual(1008, Code),
            N
    end.

close_code(Conn) ->
    case ?W:ws_frame(Conn) of
        {{2#1000, 8, <<Code:16, _/binary>>}, _} -> Code;
        {_, Next} -> close_code(Next)
    end.

%% What is under way at the end of a transport is told so.
draining(_Config) ->
    Slow = fun(_, _) -> timer:sleep(500), {ok, <<"done">>} end,
    {Transport, Port} = start((batching(100))#{handler => Slow}),
    C0 = ?W:ws(Port, "/mcp/ws"),
    ok = ?W:ws_send(C0, modern(<<"s">>, <<"subscriptions/listen">>, #{notifications => #{toolsListChanged => true}})),
    {#{<<"method">> := <<"notifications/subscriptions/acknowledged">>}, C1} = ?W:ws_text(C0),
    ok = ?T:send(Transport, <<"{\"n\":1}">>),
    ok = ?W:ws_send(C1, modern(7, <<"tools/call">>, #{name => <<"x">>})),
    timer:sleep(100),
    ok = ?T:close(Transport),
    {#{<<"n">> := 1}, C2} = ?W:ws_text(C1),
    {#{<<"id">> := <<"s">>, <<"result">> := #{<<"resultType">> := <<"complete">>}}, C3} = ?W:ws_text(C2),
    {#{<<"id">> := 7, <<"result">> := #{<<"content">> := _}}, C4} = ?W:ws_text(C3),
    ?assertEqual(1001, close_code(C4)),
    ?assertEqual(false, is_process_alive(Transport)),
    erlmcp_shm_test:eventually(fun() -> gen_tcp:connect("127.0.0.1", Port, []) =:= {error, econnrefused} end).

%% What a transport had taken goes out, batches too, however it ended.
killed(_Config) ->
    {Transport, Port} = start(batching(100)),
    C0 = ?W:ws(Port, "/mcp/ws"),
    peers(1, Transport),
    [ok = ?T:send(Transport, ?W:json(#{n => N})) || N <- lists:seq(1, 50)],
    unlink(Transport),
    exit(Transport, kill),
    C1 = lists:foldl(
        fun(N, C) ->
            {#{<<"n">> := N}, Next} = ?W:ws_text(C),
            Next
        end,
        C0,
        lists:seq(1, 50)
    ),
    ?assertEqual(1001, close_code(C1)),
    %% The port is free for the next at once.
    {ok, Next} = ?T:start_link(#{port => Port}, self()),
    _ = ?W:ws(Port, "/mcp/ws"),
    ok = ?T:close(Next).

%% Several transports at one port; each goes by itself, and the port with the last.
one_listener(_Config) ->
    {Ws, Port} = start(#{}),
    {ok, Other} = ?T:start_link(#{port => Port, path => "/other"}, self()),
    ?assertEqual({error, {path_in_use, Port, <<"/other">>}}, ?T:start_link(#{port => Port, path => "/other"}, self())),
    ?assertMatch(
        {error, {address_in_use, _, Port, tls}}, ?T:start_link(#{port => Port, path => "/tls", tls => #{certfile => "x"}}, self())
    ),
    {ok, Taken} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, TakenPort} = inet:port(Taken),
    ?assertMatch({error, {listen, eaddrinuse}}, ?T:start_link(#{port => TakenPort}, self())),
    _ = ?W:ws(Port, "/mcp/ws"),
    _ = ?W:ws(Port, "/other"),
    ok = ?T:close(Ws),
    {{404, _}, _} = ?W:ws(Port, "/mcp/ws", []),
    _ = ?W:ws(Port, "/other"),
    unlink(Other),
    exit(Other, kill),
    erlmcp_shm_test:eventually(fun() -> gen_tcp:connect("127.0.0.1", Port, []) =:= {error, econnrefused} end),
    {ok, Again} = ?T:start_link(#{port => Port}, self()),
    ok = ?T:close(Again).

%% Transports end with what they listen through, and come back without its leftovers.
listener_gone(_Config) ->
    process_flag(trap_exit, true),
    {Transport, Port} = start(#{}),
    exit(whereis(erlmcp_shm_listener), kill),
    receive
        {'EXIT', Transport, {listener, killed}} -> ok
    after 10000 -> error(alive)
    end,
    {ok, Again} = ?T:start_link(#{port => Port}, self()),
    _ = ?W:ws(Port, "/mcp/ws"),
    ok = ?T:close(Again).

tls(Config) ->
    {Transport, Port} = start(#{tls => ?W:certificate(proplists:get_value(priv_dir, Config))}),
    C = ?W:ws({tls, Port}, "/mcp/ws"),
    ok = ?W:ws_send(C, request(1, <<"ping">>, #{})),
    {#{<<"id">> := 1}, _} = ?W:ws_text(C),
    {ok, _} = ?T:probe(Transport, 5000),
    ok = ?T:close(Transport).

%% Who tells sessions of changes is killed: they are told of what comes after, and of what came meanwhile.
changes_gone(_Config) ->
    {Transport, Port} = start(#{}),
    C0 = ?W:ws(Port, "/mcp/ws"),
    ok = ?W:ws_send(C0, request(1, <<"initialize">>, #{protocolVersion => <<"2025-11-25">>})),
    {#{<<"id">> := 1}, C1} = ?W:ws_text(C0),
    ok = ?W:ws_send(C1, request(2, <<"resources/subscribe">>, #{uri => <<"mem:a">>})),
    {#{<<"id">> := 2}, C2} = ?W:ws_text(C1),
    _ = lists:foldl(
        fun(N, C) ->
            Changes = whereis(erlmcp_shm_changes),
            true = sys:suspend(Changes) =:= ok,
            ok = erlmcp_shm_exporter:export_resource(<<"mem:a">>, integer_to_binary(N), #{}),
            exit(Changes, kill),
            Told = updated(C),
            ok = erlmcp_shm_exporter:export_resource(<<"mem:a">>, <<"after">>, #{}),
            updated(Told)
        end,
        C2,
        [1, 2, 3]
    ),
    ?assertMatch([{erlmcp_shm_changes, Pid, worker, _} | _] when is_pid(Pid), lists:sort(supervisor:which_children(erlmcp_shm_services))),
    ok = ?T:close(Transport).

updated(Conn) ->
    case ?W:ws_text(Conn) of
        {#{<<"method">> := <<"notifications/resources/updated">>}, Next} -> Next;
        {#{<<"method">> := _}, Next} -> updated(Next)
    end.

%% The gateway says so once for each transport, tries none of them again by itself, and carries on with the others.
gateway_without_cowboy(_Config) ->
    Peer = erlmcp_shm_test:start_node(["-env", "ERL_LIBS", "/nonexistent"]),
    ok = erlmcp_shm_test:call(Peer, ?MODULE, without_cowboy, []),
    erlmcp_shm_test:stop_node(Peer).

without_cowboy() ->
    F = erlmcp_claude_flow,
    Missing = {missing_application, cowboy},
    Said = counters:new(1, []),
    ok = logger:add_handler(said, ?MODULE, #{config => Said}),
    Spawn = fun(Transports) ->
        process_flag(trap_exit, true),
        {ok, Gateway} = F:start_link(#{transports => Transports, health_check_interval => 20}),
        Gateway
    end,
    Network = [#{type => Type} || Type <- [websocket, http, sse]],
    Alone = Spawn(Network),
    ?assertEqual({error, Missing}, F:send(active, <<"{}">>)),
    ?assertEqual({error, Missing}, F:select_transport([#{type => http}], #{})),
    ?assertEqual({error, Missing}, F:select_transport([#{type => http, config => #{port => 1}}], #{})),
    ?assertMatch(
        #{
            transport_type := none,
            transport_health := unhealthy,
            transports_unavailable := [{http, Missing}, {sse, Missing}, {websocket, Missing}]
        },
        maps:update_with(transports_unavailable, fun lists:sort/1, F:metrics())
    ),
    %% Longer than the longest pause before another attempt.
    timer:sleep(1500),
    %% Once each, and once for the one that is not kept.
    ?assertEqual(4, counters:get(Said, 1)),
    ok = gen_server:stop(Alone),
    Other = #{type => stdio, module => erlmcp_shm_test_transport, config => #{type => stdio, port => none}},
    Beside = Spawn([Other#{health_check => false} | Network]),
    ?assertMatch(#{transport_type := stdio, transport_health := healthy, transports_unavailable := [_, _, _]}, F:metrics()),
    {ok, Pid} = F:select_transport([Other | Network], #{}),
    ?assertMatch({ok, #{type := stdio, state := active}}, F:get_info(Pid)),
    ok = gen_server:stop(Beside),
    ok = logger:remove_handler(said).

%% Of what that handler gets.
log(#{msg := {report, #{what := transport, unavailable := {missing_application, cowboy}, advice := _}}}, #{config := Said}) ->
    counters:add(Said, 1, 1);
log(_, _) ->
    ok.

%% A node without cowboy says what is missing, and does the rest.
no_cowboy(_Config) ->
    Peer = erlmcp_shm_test:start_node(["-env", "ERL_LIBS", "/nonexistent"]),
    ?assertEqual(non_existing, erlmcp_shm_test:call(Peer, code, which, [cowboy])),
    [
        ?assertEqual(
            {error, {missing_application, cowboy}},
            erlmcp_shm_test:call(Peer, erlmcp_shm_transport:module(Type), start_link, [#{}, self()])
        )
     || Type <- [http, websocket, sse]
    ],
    ?assertMatch({ok, _}, erlmcp_shm_test:call(Peer, erlmcp_shm, start, [])),
    erlmcp_shm_test:stop_node(Peer).

%% A hundred clients at once, each of whom gets to know of the last of many updates.
many(_Config) ->
    {Transport, Port} = start(#{compression => permessage_deflate}),
    Self = self(),
    Clients = [spawn_link(fun() -> client(Self, Port) end) || _ <- lists:seq(1, 100)],
    [
        receive
            {ready, Pid} -> ok
        after 30000 -> error(not_ready)
        end
     || Pid <- Clients
    ],
    ?assertMatch(#{peers := 100}, ?T:get_info(Transport)),
    [
        begin
            ok = erlmcp_shm_exporter:export_resource(<<"mem:n">>, integer_to_binary(N), #{}),
            timer:sleep(10)
        end
     || N <- lists:seq(1, 200)
    ],
    Updates = [
        receive
            {done, Pid, Count} -> Count
        after 30000 -> error(missed)
        end
     || Pid <- Clients
    ],
    ct:pal("updates told to each of 100 clients, of 200 published: ~b to ~b", [lists:min(Updates), lists:max(Updates)]),
    peers(0, Transport),
    ok = ?T:close(Transport).

client(Test, Port) ->
    C0 = ?W:ws(Port, "/mcp/ws"),
    ok = ?W:ws_send(C0, request(<<"i">>, <<"initialize">>, #{})),
    C1 = answer(<<"i">>, C0),
    ok = ?W:ws_send(C1, request(<<"s">>, <<"resources/subscribe">>, #{uri => <<"mem:n">>})),
    C2 = answer(<<"s">>, C1),
    Test ! {ready, self()},
    Test ! {done, self(), updates(C2, 0, 0)}.

answer(Id, Conn) ->
    case ?W:ws_text(Conn) of
        {#{<<"id">> := Id}, Next} -> Next;
        {#{<<"method">> := _}, Next} -> answer(Id, Next)
    end.

%% Reads at each update, until it has read the last; no value is older than the one before.
updates(Conn, Seen, Last) ->
    case ?W:ws_text(Conn) of
        {#{<<"method">> := <<"notifications/resources/updated">>}, Next} ->
            ok = ?W:ws_send(Next, request(Seen, <<"resources/read">>, #{uri => <<"mem:n">>})),
            updates(Next, Seen + 1, Last);
        {#{<<"method">> := _}, Next} ->
            updates(Next, Seen, Last);
        {#{<<"result">> := #{<<"contents">> := [#{<<"text">> := Text}]}}, Next} ->
            case binary_to_integer(Text) of
                200 -> Seen;
                Now when Now >= Last -> updates(Next, Seen, Now)
            end
    end.

%%% Helpers

start(Config) ->
    {ok, Transport} = ?T:start_link(Config#{port => 0}, self()),
    #{port := Port} = ?T:get_info(Transport),
    {Transport, Port}.

batching(Size) ->
    #{batching => true, batch_config => #{max_batch_size => Size, max_batch_bytes => 100000, max_batch_delay_ms => 60000}}.

peers(N, Transport) ->
    erlmcp_shm_test:eventually(fun() -> maps:get(peers, ?T:get_info(Transport)) =:= N end).

request(Id, Method, Params) ->
    ?W:json(#{jsonrpc => <<"2.0">>, id => Id, method => Method, params => Params}).

modern(Id, Method, Params) ->
    Meta = #{<<"io.modelcontextprotocol/protocolVersion">> => <<"2026-07-28">>, <<"io.modelcontextprotocol/clientCapabilities">> => #{}},
    request(Id, Method, Params#{'_meta' => Meta}).
