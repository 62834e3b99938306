%% The stdio transport: a node as a server over its own standard input and output, and one over a device of ours.
-module(erlmcp_shm_stdio_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(erlmcp_shm_test_stdio, [node_port/1, say/2, hear/1, rest/1, request/3, modern/3, note/2]).

all() ->
    [
        a_node,
        a_node_without_configuration,
        device,
        batches,
        slow_client,
        end_of_input,
        large_messages,
        second_reader,
        without_endpoint
    ].

init_per_testcase(Case, Config) ->
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    erlmcp_shm_test:stop().

%%% A node

a_node(Config) ->
    Path = erlmcp_shm_test:path(Config),
    File = filename:join(proplists:get_value(priv_dir, Config), "claude_flow.config"),
    ok = file:write_file(File, io_lib:format("~tp.~n", [[{erlmcp, [{claude_flow, #{
        shared_memory => #{enabled => true, path => Path, size => 1 bsl 20}
    }}]}]])),
    %% What is published, the application finds in the file again.
    _ = erlmcp_shm_test:start(#{path => Path, size => 1 bsl 20}),
    ok = erlmcp_shm_exporter:export_resource(<<"mem:λ"/utf8>>, <<"line\nline é"/utf8>>, #{}),
    ok = erlmcp_shm_exporter:export_tool_schema(<<"t">>, {json, <<"{\n\"type\":\"object\"\n}">>}, #{}),
    erlmcp_shm_test:stop(),
    Port = node_port(["-config", filename:rootname(File)]),
    say(Port, request(1, <<"initialize">>, #{protocolVersion => <<"2025-11-25">>, capabilities => #{}})),
    #{<<"id">> := 1, <<"result">> := #{<<"protocolVersion">> := <<"2025-11-25">>}} = hear(Port),
    say(Port, note(<<"notifications/initialized">>, #{})),
    say(Port, request(2, <<"resources/read">>, #{uri => <<"mem:λ"/utf8>>})),
    #{<<"id">> := 2, <<"result">> := #{<<"contents">> := [#{<<"text">> := <<"line\nline é"/utf8>>}]}} = hear(Port),
    say(Port, request(3, <<"tools/list">>, #{})),
    #{<<"id">> := 3, <<"result">> := #{<<"tools">> := [#{<<"inputSchema">> := #{<<"type">> := <<"object">>}}]}} = hear(Port),
    say(Port, modern(4, <<"server/discover">>, #{})),
    #{<<"id">> := 4, <<"result">> := #{<<"resultType">> := <<"complete">>}} = hear(Port),
    %% Everything at once, and the end of input: all of it is answered.
    say(Port, [[modern(Id, <<"tools/list">>, #{}), $\n] || Id <- lists:seq(10, 200)]),
    {Answers, 0} = rest(Port),
    ?assertEqual(lists:seq(10, 200), lists:sort([Id || #{<<"id">> := Id} <- Answers])).

%% Without an exporter there is nothing to serve, and the server says so politely.
a_node_without_configuration(_Config) ->
    Port = node_port([]),
    say(Port, [modern(1, <<"resources/list">>, #{}), $\n, "nonsense"]),
    {[#{<<"id">> := 1, <<"result">> := #{<<"resources">> := []}}, #{<<"error">> := #{<<"code">> := -32700}}], 0} = rest(Port).

%%% A device of ours

device(Config) ->
    _ = erlmcp_shm_test:start(#{path => erlmcp_shm_test:path(Config), size => 1 bsl 20}),
    {Device, Transport} = transport(#{}),
    ?assertMatch(#{type := stdio, peers := 1}, erlmcp_shm_transport_stdio:get_info(Transport)),
    {ok, Ms} = erlmcp_shm_transport_stdio:probe(Transport, 5000),
    ?assert(Ms >= 0.0),
    type(Device, [request(1, <<"ping">>, #{}), "\r\n\n"]),
    ?assertEqual([#{<<"jsonrpc">> => <<"2.0">>, <<"id">> => 1, <<"result">> => #{}}], written(1)),
    Note = note(<<"notifications/erlmcp/client_metrics">>, #{reads => 1}),
    type(Device, [Note, $\n]),
    receive
        {transport_message, Transport, Heard} -> ?assertEqual(Note, Heard)
    end,
    ?assertMatch(#{client_metrics := [#{<<"reads">> := 1}]}, erlmcp_shm_transport_stdio:get_info(Transport)),
    %% A change, to one who subscribed.
    type(Device, [request(2, <<"initialize">>, #{}), $\n, request(3, <<"resources/subscribe">>, #{uri => <<"mem:a">>}), $\n]),
    [#{<<"id">> := 2}, #{<<"id">> := 3}] = written(2),
    ok = erlmcp_shm_exporter:export_resource(<<"mem:a">>, <<"1">>, #{}),
    Told = written(2),
    ?assertEqual([<<"notifications/resources/list_changed">>, <<"notifications/resources/updated">>], lists:sort([M || #{<<"method">> := M} <- Told])),
    ok = erlmcp_shm_transport_stdio:send(Transport, ["{\"jsonrpc\":", $\n, "\"2.0\",\"method\":\"x\"}"]),
    [#{<<"method">> := <<"x">>}] = written(1),
    ok = erlmcp_shm_transport_stdio:close(Transport),
    ?assertEqual({error, closed}, erlmcp_shm_transport_stdio:send(Transport, <<"{}">>)),
    ?assertEqual({error, closed}, erlmcp_shm_transport_stdio:probe(Transport, 1000)).

%% Joined writes, by the number of write requests that the device gets; and never an array.
batches(_Config) ->
    {_, Transport} = transport(#{batching => true, batch_config => #{max_batch_size => 10, max_batch_bytes => 1000000, max_batch_delay_ms => 60000}}),
    Send = fun(N) -> ok = erlmcp_shm_transport_stdio:send(Transport, note(<<"n">>, #{n => N})) end,
    [Send(N) || N <- lists:seq(1, 10)],
    Ten = write(),
    ?assertEqual(lists:seq(1, 10), [N || #{<<"params">> := #{<<"n">> := N}} <- lines(Ten)]),
    [Send(N) || N <- lists:seq(11, 15)],
    receive
        {wrote, _} -> error(too_early)
    after 100 -> ok
    end,
    ok = erlmcp_shm_transport_stdio:close(Transport),
    ?assertEqual(lists:seq(11, 15), [N || #{<<"params">> := #{<<"n">> := N}} <- lines(write())]),
    {_, Delayed} = transport(#{batching => true, batch_config => #{max_batch_size => 1000, max_batch_bytes => 100, max_batch_delay_ms => 20}}),
    ok = erlmcp_shm_transport_stdio:send(Delayed, <<"{}">>),
    ?assertEqual([#{}], lines(write())),
    [ok = erlmcp_shm_transport_stdio:send(Delayed, binary:copy(<<"1">>, 50)) || _ <- [1, 2]],
    ?assertEqual(2, length(lines(write()))).

%% One who does not read costs no more than so much, and ends the transport by name.
slow_client(_Config) ->
    process_flag(trap_exit, true),
    {Device, Transport} = transport(#{max_queue_bytes => 100000}),
    Device ! {stall, self()},
    Message = binary:copy(<<"1">>, 1000),
    {Taken, Last} = flood(Transport, Message, 0),
    ?assertEqual({error, slow_client}, Last),
    ?assert(Taken =< 100),
    receive
        {'EXIT', Transport, Reason} -> ?assertEqual({shutdown, slow_client}, Reason)
    end.

flood(Transport, Message, N) ->
    case erlmcp_shm_transport_stdio:send(Transport, Message) of
        ok -> flood(Transport, Message, N + 1);
        Other -> {N, Other}
    end.

end_of_input(_Config) ->
    process_flag(trap_exit, true),
    Slow = fun(_, _) -> timer:sleep(200), {ok, <<"done">>} end,
    {Device, Transport} = transport(#{handler => Slow}),
    type(Device, [modern(1, <<"tools/call">>, #{name => <<"x">>}), $\n]),
    type(Device, eof),
    [#{<<"id">> := 1, <<"result">> := #{}}] = written(1),
    receive
        {'EXIT', Transport, Reason} -> ?assertEqual({shutdown, eof}, Reason)
    end.

large_messages(_Config) ->
    {Device, Transport} = transport(#{max_message_bytes => 1000}),
    type(Device, [binary:copy(<<"1">>, 1001), $\n, request(1, <<"ping">>, #{}), $\n]),
    [#{<<"error">> := #{<<"code">> := -32600}}, #{<<"id">> := 1}] = written(2),
    ok = erlmcp_shm_transport_stdio:close(Transport).

second_reader(_Config) ->
    true = register(erlmcp_shm_transport_stdio, self()),
    ?assertEqual({error, {already_started, self()}}, erlmcp_shm_transport_stdio:start_link(#{}, self())),
    unregister(erlmcp_shm_transport_stdio).

without_endpoint(_Config) ->
    {Device, Transport} = transport(#{endpoint => false}),
    type(Device, "anything\n"),
    receive
        {transport_message, Transport, Heard} -> ?assertEqual(<<"anything">>, Heard)
    end,
    ok = erlmcp_shm_transport_stdio:close(Transport).

transport(Config) ->
    Self = self(),
    Device = spawn_link(fun() -> device(Self, [], []) end),
    {ok, Transport} = erlmcp_shm_transport_stdio:start_link(Config#{io_device => Device}, Self),
    {Device, Transport}.

type(Device, Text) ->
    Device ! {type, Text},
    ok.

%% So many messages, in however many writes.
written(N) ->
    written(N, []).

written(N, Messages) when length(Messages) < N -> written(N, Messages ++ lines(write()));
written(_, Messages) -> Messages.

write() ->
    receive
        {wrote, Bytes} -> Bytes
    after 10000 -> error(nothing_written)
    end.

lines(Bytes) ->
    [element(2, {ok, _} = erlmcp_shm_json:decode(Line)) || Line <- binary:split(Bytes, <<"\n">>, [global, trim])].

%% An I/O server: what is typed can be read by lines, what is written is told to the test.
device(Test, Typed, Reading) ->
    receive
        {type, eof} ->
            lines_or_wait(Test, Typed ++ [eof], Reading);
        {type, Text} ->
            Lines = binary:split(iolist_to_binary(Text), <<"\n">>, [global, trim]),
            lines_or_wait(Test, Typed ++ [<<L/binary, "\n">> || L <- Lines], Reading);
        {stall, _} ->
            timer:sleep(infinity);
        {io_request, From, Ref, {get_line, _, _}} ->
            lines_or_wait(Test, Typed, Reading ++ [{From, Ref}]);
        {io_request, From, Ref, {put_chars, latin1, Chars}} ->
            From ! {io_reply, Ref, ok},
            Test ! {wrote, iolist_to_binary(Chars)},
            device(Test, Typed, Reading);
        {io_request, From, Ref, _} ->
            From ! {io_reply, Ref, {error, request}},
            device(Test, Typed, Reading)
    end.

lines_or_wait(Test, [Line | Typed], [{From, Ref} | Reading]) ->
    From ! {io_reply, Ref, Line},
    device(Test, Typed, Reading);
lines_or_wait(Test, Typed, Reading) ->
    device(Test, Typed, Reading).
