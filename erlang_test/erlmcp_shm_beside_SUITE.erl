%% The server that a client starts, beside the node of the same configuration: each an OS process. It says what the node
%% would say, for as long as there is a file, whoever comes and goes; and is in nobody's way.
-module(erlmcp_shm_beside_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(erlmcp_shm_test, [call/4, eventually/1, kill_node/1, path/1, start_node/0, stop_node/1]).
-import(erlmcp_shm_test_stdio, [node_port/2, say/2, hear/1, rest/1, request/3, modern/3]).

-define(C, erlmcp_shm_test_client).
-define(E, erlmcp_shm_exporter).
-define(LARGE, 100000).

all() ->
    [
        same_answers,
        changes,
        another_store,
        node_that_is_killed,
        no_file,
        no_right,
        exports_alone,
        exports_beside_a_node,
        doctor,
        fallback
    ].

init_per_testcase(Case, Config) ->
    process_flag(trap_exit, true),
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    ok.

%%% Beside a node

%% Every answer is byte for byte the node's own.
same_answers(Config) ->
    Node = node_with(Config),
    {ok, _} = call(Node, erlmcp_shm_test_handler, handle, [{call_tool, <<"seed">>, #{}}, #{}]),
    ok = call(Node, ?E, export_resource, [<<"mem:large">>, binary:copy(<<"x">>, ?LARGE), #{}]),
    Child = child(Config),
    Questions = questions(),
    Texts = [request(Id, Method, Params) || {Id, {Method, Params}} <- lists:enumerate(Questions)],
    Modern = [
        modern(1000 + Id, Method, Params)
     || {Id, {Method, Params}} <- lists:enumerate(Questions ++ [{<<"server/discover">>, #{}}]), Method =/= <<"initialize">>
    ],
    All = Texts ++ Modern,
    Theirs = call(Node, ?MODULE, answers, [All]),
    Ours = [
        begin
            say(Child, Text),
            hear(Child)
        end
     || Text <- All
    ],
    [?assertEqual({Text, Their}, {Text, Our}) || {Text, Their, Our} <- lists:zip3(All, Theirs, Ours)],
    %% What was compared is something.
    ?assert(length([ok || #{<<"result">> := _} <- Ours]) > 30),
    {[], 0} = rest(Child),
    quiet(Config),
    ok = stop_node(Node).

questions() ->
    [{<<"initialize">>, #{protocolVersion => <<"2025-11-25">>, capabilities => #{}}}] ++
        [{<<"resources/read">>, #{uri => Uri}} || Uri <- [
            <<"file:///a.txt">>, <<"file:///dir/b.json">>, <<"file:///dir/c">>, <<"untyped">>, <<"untyped:bytes/">>,
            <<"mem:large">>, <<"made:it">>, <<"file:///nothing">>
        ]] ++
        [{<<"prompts/get">>, Get} || Get <- [
            #{name => <<"greet">>, arguments => #{who => <<"Ann">>}}, #{name => <<"greet">>}, #{name => <<"plain">>},
            #{name => <<"made">>, arguments => #{x => <<"1">>}}, #{name => <<"nothing">>}
        ]] ++
        [{<<"tools/call">>, #{name => <<"add">>, arguments => #{a => 40, b => 2}}}, {<<"tools/call">>, #{name => <<"unknown">>}}] ++
        [{List, #{}} || List <- [<<"resources/list">>, <<"tools/list">>, <<"prompts/list">>, <<"resources/templates/list">>]] ++
        [{<<"tools/list">>, #{cursor => base64:encode(<<"add">>)}}, {<<"tools/list">>, #{cursor => 1}}].

%% On the node: what its own endpoint says.
answers(Texts) ->
    {Answers, _} = lists:mapfoldl(fun answer/2, erlmcp_shm_endpoint:new(#{handler => erlmcp_shm_test_handler}), Texts),
    Answers.

answer(Text, Session) ->
    answered(erlmcp_shm_endpoint:handle(Text, Session)).

answered({[{reply, _, _, Json} | _], Session}) ->
    {ok, Answer} = erlmcp_shm_json:decode(Json),
    {Answer, Session};
answered({[], Session}) ->
    receive
        Message -> answered(erlmcp_shm_endpoint:info(Message, Session))
    end.

%% A change is told, and again once the file was rolled over, in both eras.
changes(Config) ->
    Node = node_with(Config),
    ok = call(Node, ?E, export_resource, [<<"mem:a">>, <<"1">>, #{}]),
    Child = child(Config),
    ok = subscribe(Child, <<"mem:a">>),
    say(Child, modern(3, <<"subscriptions/listen">>, #{notifications => #{toolsListChanged => true}})),
    #{<<"method">> := <<"notifications/subscriptions/acknowledged">>} = hear(Child),
    ok = call(Node, ?E, export_resource, [<<"mem:a">>, <<"2">>, #{}]),
    #{<<"method">> := <<"notifications/resources/updated">>, <<"params">> := #{<<"uri">> := <<"mem:a">>}} = hear(Child),
    <<"2">> = content(Child, <<"mem:a">>),
    ok = call(Node, ?E, export_tool_schema, [<<"t">>, #{}, #{}]),
    %% To the session, and to the stream.
    [Same, Same] = [maps:get(<<"method">>, hear(Child)) || _ <- [1, 2]],
    ?assertEqual(<<"notifications/tools/list_changed">>, Same),
    #{generation := Before} = call(Node, ?E, info, []),
    [ok = call(Node, ?E, export_resource, [<<"mem:b">>, binary:copy(<<N>>, ?LARGE), #{}]) || N <- lists:seq(1, 40)],
    #{generation := After} = call(Node, ?E, info, []),
    ?assert(After > Before),
    #{<<"method">> := <<"notifications/resources/list_changed">>} = hear(Child),
    ok = call(Node, ?E, invalidate, [resource, <<"mem:a">>]),
    ok = told(Child, [<<"notifications/resources/updated">>, <<"notifications/resources/list_changed">>]),
    not_found = content(Child, <<"mem:a">>),
    {_, 0} = rest(Child),
    quiet(Config),
    ok = stop_node(Node).

%% A node that begins with nothing counts its versions anew, and what it says under a key is another thing all the same.
another_store(Config) ->
    First = node_with(Config),
    ok = call(First, ?E, export_resource, [<<"mem:a">>, <<"first">>, #{}]),
    Child = child(Config),
    ok = subscribe(Child, <<"mem:a">>),
    <<"first">> = content(Child, <<"mem:a">>),
    ok = stop_node(First),
    ok = file:delete(path(Config)),
    %% What was removed is still what there was.
    <<"first">> = content(Child, <<"mem:a">>),
    Second = node_with(Config),
    ok = call(Second, ?E, export_resource, [<<"mem:a">>, <<"second">>, #{}]),
    ok = told(Child, [<<"notifications/resources/updated">>]),
    eventually(fun() -> content(Child, <<"mem:a">>) =:= <<"second">> end),
    {_, 0} = rest(Child),
    quiet(Config),
    ok = stop_node(Second).

%% A child beside a dead node serves what the file holds, and the next node starts while it does.
node_that_is_killed(Config) ->
    First = node_with(Config),
    ok = call(First, ?E, export_resource, [<<"mem:a">>, <<"first">>, #{}]),
    Child = child(Config),
    ok = subscribe(Child, <<"mem:a">>),
    ok = kill_node(First),
    <<"first">> = content(Child, <<"mem:a">>),
    %% One that is started now does so too.
    Later = child(Config),
    ok = initialize(Later),
    <<"first">> = content(Later, <<"mem:a">>),
    Second = node_with(Config),
    <<"first">> = content(Child, <<"mem:a">>),
    ok = call(Second, ?E, export_resource, [<<"mem:a">>, <<"second">>, #{}]),
    ok = told(Child, [<<"notifications/resources/updated">>]),
    [?assertEqual(<<"second">>, content(C, <<"mem:a">>)) || C <- [Child, Later]],
    [{_, 0} = rest(C) || C <- [Child, Later]],
    quiet(Config),
    ok = stop_node(Second).

no_file(Config) ->
    Child = child(Config),
    ok = subscribe(Child, <<"mem:a">>),
    not_found = content(Child, <<"mem:a">>),
    say(Child, request(5, <<"resources/list">>, #{})),
    #{<<"result">> := #{<<"resources">> := []}} = hear(Child),
    say(Child, request(6, <<"tools/call">>, #{name => <<"add">>, arguments => #{a => 1, b => 2}})),
    #{<<"result">> := #{<<"content">> := [#{<<"text">> := <<"3">>}]}} = hear(Child),
    ?assertNot(filelib:is_file(path(Config))),
    Node = node_with(Config),
    ok = call(Node, ?E, export_resource, [<<"mem:a">>, <<"1">>, #{}]),
    ok = told(Child, [<<"notifications/resources/updated">>, <<"notifications/resources/list_changed">>]),
    <<"1">> = content(Child, <<"mem:a">>),
    {_, 0} = rest(Child),
    quiet(Config),
    ok = stop_node(Node).

%% What is no store is nothing to serve. The log names it.
no_right(Config) ->
    ok = file:write_file(path(Config), <<"something else">>),
    Child = child(Config),
    ?assertEqual({[], 1}, rest(Child)),
    named_in_log(Config, "not_a_store").

%%% Exports in the server itself

%% It is then the file's writer like any other, and nobody else can be.
exports_alone(Config) ->
    Child = child(Config),
    ok = subscribe(Child, <<"mem:a">>),
    ?assertEqual(<<"published">>, export(Child, <<"mem:a">>, <<"1">>)),
    ok = told(Child, [<<"notifications/resources/updated">>, <<"notifications/resources/list_changed">>]),
    <<"1">> = content(Child, <<"mem:a">>),
    {ok, Reader} = erlmcp_shm_reader:open(path(Config)),
    eventually(fun() -> {ok, #{writer := W}} = erlmcp_shm_reader:stats(Reader), W =:= alive end),
    ?assertMatch({ok, <<"1">>, _}, erlmcp_shm_reader:lookup(Reader, resource, <<"mem:a">>)),
    Node = start_node(),
    ?assertEqual({error, {failed_to_create_shm, locked}}, call(Node, erlmcp_shm_test, start_unlinked, [options(Config)])),
    ?assertEqual(<<"published">>, export(Child, <<"mem:a">>, <<"2">>)),
    {_, 0} = rest(Child),
    %% Its lock ends with it.
    ok = call(Node, erlmcp_shm_test, start_unlinked, [options(Config)]),
    ?assertMatch({ok, <<"2">>, _}, call(Node, ?E, lookup, [resource, <<"mem:a">>])),
    ok = erlmcp_shm_reader:close(Reader),
    quiet(Config),
    ok = stop_node(Node).

%% What the node has is the node's: an export here is refused, at once, and harms nothing.
exports_beside_a_node(Config) ->
    Node = node_with(Config),
    ok = call(Node, ?E, export_resource, [<<"mem:a">>, <<"1">>, #{}]),
    Child = child(Config, #{on_locked => {wait, 60000}}),
    ok = initialize(Child),
    [?assertEqual(<<"locked">>, export(Child, <<"mem:a">>, <<"2">>)) || _ <- [1, 2]],
    <<"1">> = content(Child, <<"mem:a">>),
    named_in_log(Config, "locked"),
    %% Said when it began, and not each time.
    ?assertMatch({match, [_]}, re:run(log(Config), "locked", [global])),
    ok = stop_node(Node),
    ?assertEqual(<<"published">>, export(Child, <<"mem:a">>, <<"2">>)),
    <<"2">> = content(Child, <<"mem:a">>),
    {_, 0} = rest(Child).

%%% The Rust client, with the project's own configuration

doctor(Config) ->
    Port = ?C:free_port(),
    File = ?C:configured(Config, Port),
    Node = ?C:start_node(File),
    ok = ?C:await_port(Port),
    Toml = ?C:toml(Config, File, #{transport => "hybrid", l2 => true, mcp => "connect_timeout = \"10s\"\n"}),
    {ok, Command} = erlmcp_shm_test:binary("erlmcp-shm"),
    {0, Text} = erlmcp_shm_test:run(Command, ["doctor", "--config", Toml], [stderr_to_stdout]),
    %% A line for each, and no other.
    Lines = [binary:split(Line, <<" ">>, [global, trim_all]) || Line <- binary:split(Text, <<"\n">>, [global, trim])],
    ?assertEqual(
        [[<<"ok">>, What] || What <- [<<"L1">>, <<"L2">>, <<"configuration">>, <<"http">>, <<"sse">>, <<"stdio">>, <<"websocket">>]],
        lists:sort([[Verdict, What] || [Verdict, What | _] <- Lines])
    ),
    ok = ?C:kill_node(Node),
    {1, Without} = erlmcp_shm_test:run(Command, ["doctor", "--config", Toml]),
    ?assertMatch({match, _}, re:run(Without, "^ok +stdio", [multiline])).

%% The node dies, and the client's own server answers in its place; the node comes back while that runs.
fallback(Config) ->
    Port = ?C:free_port(),
    File = ?C:configured(Config, Port),
    First = ?C:start_node(File),
    ok = ?C:await_port(Port),
    Options = #{transport => "hybrid", l2 => true, mcp => "connect_timeout = \"10s\"\nhealth_check_interval = \"500ms\"\n"},
    Client = ?C:start(?C:toml(Config, File, Options), stateless),
    {ok, _} = ?C:ask(Client, call_tool, #{name => <<"seed">>}),
    Read = fun() -> ?C:ask(Client, read_resource, #{name => <<"file:///a.txt">>, cache => <<"bypass">>}) end,
    {ok, #{<<"contents">> := Contents}, <<"L3">>, null} = Read(),
    ok = ?C:kill_node(First),
    eventually(fun() ->
        case Read() of
            {ok, Now, <<"L3">>, null} -> Contents =:= maps:get(<<"contents">>, Now);
            {error, _} -> false
        end
    end),
    {ok, #{<<"content">> := [#{<<"text">> := <<"5">>}]}} = ?C:ask(Client, call_tool, #{name => <<"add">>, arguments => #{a => 2, b => 3}}),
    Second = ?C:start_node(File),
    ok = ?C:await_port(Port),
    Publish = #{name => <<"publish">>, arguments => #{uri => <<"mem:new">>, text => <<"of the second">>}},
    %% Through the node again, once the client has seen that it is there: its own server may not.
    eventually(fun() ->
        case ?C:ask(Client, call_tool, Publish) of
            {ok, Result} -> not maps:get(<<"isError">>, Result, false);
            {error, _} -> false
        end
    end),
    {ok, #{<<"contents">> := [#{<<"text">> := <<"of the second">>}]}, _, _} = ?C:ask(Client, read_resource, #{name => <<"mem:new">>}),
    ok = ?C:stop(Client),
    ok = ?C:kill_node(Second).

%%% A node that publishes, and a child

node_with(Config) ->
    Node = start_node(),
    ok = call(Node, erlmcp_shm_test, start_unlinked, [options(Config)]),
    Node.

options(Config) ->
    #{path => path(Config), size => 1 bsl 20}.

child(Config) ->
    child(Config, #{}).

%% Its configuration has a listener as well, at a place where nobody could listen: nobody tries.
child(Config, More) ->
    File = path(Config) ++ ".config",
    Map = #{
        shared_memory => maps:merge(options(Config), More),
        transports => [
            #{type => websocket, priority => 10, config => #{host => "192.0.2.1", port => 1}},
            #{type => stdio, config => #{handler => erlmcp_shm_test_handler}}
        ]
    },
    ok = file:write_file(File, io_lib:format("~tp.~n", [[{erlmcp_shm, [{claude_flow, Map}]}]])),
    Ebin = filename:dirname(code:which(?MODULE)),
    node_port(["-pa", Ebin, "-config", filename:rootname(File)], log_file(Config)).

export(Child, Uri, Text) ->
    say(Child, request(50, <<"tools/call">>, #{name => <<"publish">>, arguments => #{uri => Uri, text => Text}})),
    #{<<"id">> := 50, <<"result">> := #{<<"content">> := [#{<<"text">> := Said}]}} = answer_of(Child),
    Said.

initialize(Child) ->
    say(Child, request(1, <<"initialize">>, #{protocolVersion => <<"2025-11-25">>, capabilities => #{}})),
    #{<<"id">> := 1, <<"result">> := _} = hear(Child),
    ok.

subscribe(Child, Uri) ->
    ok = initialize(Child),
    say(Child, request(2, <<"resources/subscribe">>, #{uri => Uri})),
    #{<<"id">> := 2} = hear(Child),
    ok.

content(Child, Uri) ->
    say(Child, request(100, <<"resources/read">>, #{uri => Uri})),
    case answer_of(Child) of
        #{<<"id">> := 100, <<"result">> := #{<<"contents">> := [#{<<"text">> := Text}]}} -> Text;
        #{<<"id">> := 100, <<"error">> := #{<<"code">> := -32002}} -> not_found
    end.

%% What is told meanwhile is kept for who asks for it.
answer_of(Child) ->
    case hear(Child) of
        #{<<"method">> := Method} ->
            self() ! {told, Child, Method},
            answer_of(Child);
        Answer ->
            Answer
    end.

%% Each of these, at some time.
told(_Child, []) ->
    ok;
told(Child, Methods) ->
    Method =
        receive
            {told, Child, Kept} -> Kept
        after 0 -> maps:get(<<"method">>, hear(Child))
        end,
    told(Child, lists:delete(Method, Methods)).

%%% What it logs

log_file(Config) ->
    path(Config) ++ ".log".

log(Config) ->
    {ok, Log} = file:read_file(log_file(Config)),
    Log.

quiet(Config) ->
    ?assertEqual(<<>>, log(Config)).

named_in_log(Config, Reason) ->
    ?assertMatch({match, _}, re:run(log(Config), [path(Config), ".*", Reason], [dotall])).
