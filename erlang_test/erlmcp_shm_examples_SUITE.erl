%% The Erlang examples, each run as a program of its own, as its first lines say.
-module(erlmcp_shm_examples_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

all() ->
    [dynamic_tools].

init_per_testcase(Case, Config) ->
    [{case_name, Case} | Config].

end_per_testcase(_Case, _Config) ->
    ok.

dynamic_tools(Config) ->
    Path = erlmcp_shm_test:path(Config),
    First = start("examples/dynamic_tools/dynamic_tools.escript", [Path]),
    _ = ask(First, <<"initialize">>, #{protocolVersion => <<"2025-11-25">>, capabilities => #{}}),
    say(First, #{method => <<"notifications/initialized">>}),
    ?assertEqual([<<"define">>, <<"forget">>], tools(First)),
    ?assertEqual({false, <<"done">>}, call(First, <<"define">>, #{name => <<"fahrenheit">>, factor => 1.5, offset => 32})),
    hear_of(First, <<"notifications/tools/list_changed">>),
    ?assertEqual([<<"define">>, <<"fahrenheit">>, <<"forget">>], tools(First)),
    ?assertEqual({false, <<"47.0">>}, call(First, <<"fahrenheit">>, #{x => 10})),
    %% Another process sees it in the shared memory.
    {ok, Reader} = erlmcp_shm_reader:open(Path),
    ?assertMatch({ok, _, _}, erlmcp_shm_reader:lookup(Reader, tool, <<"fahrenheit">>)),
    [
        ?assertMatch({true, _}, call(First, Tool, Arguments))
     || {Tool, Arguments} <- [
            {<<"define">>, #{name => <<"forget">>, factor => 1, offset => 0}},
            {<<"define">>, #{name => <<"a b">>, factor => 1, offset => 0}},
            {<<"define">>, #{name => <<"x">>}},
            {<<"forget">>, #{name => <<"define">>}},
            {<<"fahrenheit">>, #{x => <<"10">>}}
        ]
    ],
    %% Killed, and started again: it has all it had.
    kill(First),
    Second = start("examples/dynamic_tools/dynamic_tools.escript", [Path]),
    _ = ask(Second, <<"initialize">>, #{protocolVersion => <<"2025-11-25">>, capabilities => #{}}),
    ?assertEqual({false, <<"62.0">>}, call(Second, <<"fahrenheit">>, #{x => 20})),
    ?assertEqual({false, <<"done">>}, call(Second, <<"forget">>, #{name => <<"fahrenheit">>})),
    ?assertEqual([<<"define">>, <<"forget">>], tools(Second)),
    ?assertEqual({error, not_found}, erlmcp_shm_reader:lookup(Reader, tool, <<"fahrenheit">>)),
    ok = erlmcp_shm_reader:close(Reader),
    kill(Second).

%%% A program that speaks MCP

start(Script, Arguments) ->
    {ok, File} = erlmcp_shm_test:project_file(Script),
    %% The application in a folder of its own name, as ERL_LIBS wants it.
    Libs = filename:dirname(filename:dirname(filename:dirname(code:which(erlmcp_shm_exporter)))),
    open_port({spawn_executable, os:find_executable("escript")}, [
        {args, [File | Arguments]}, {env, [{"ERL_LIBS", Libs}]}, {line, 1 bsl 16}, binary, use_stdio
    ]).

kill(Port) ->
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    true = port_close(Port),
    _ = os:cmd(io_lib:format("kill -9 ~b", [Pid])),
    erlmcp_shm_test:eventually(fun() -> os:cmd(io_lib:format("kill -0 ~b 2>/dev/null || echo gone", [Pid])) =/= "" end).

tools(Port) ->
    #{<<"result">> := #{<<"tools">> := Tools}} = ask(Port, <<"tools/list">>, #{}),
    [Name || #{<<"name">> := Name} <- Tools].

%% Whether it is an error, and the text.
call(Port, Tool, Arguments) ->
    #{<<"result">> := #{<<"content">> := [#{<<"text">> := Text}]} = Result} =
        ask(Port, <<"tools/call">>, #{name => Tool, arguments => Arguments}),
    {maps:get(<<"isError">>, Result, false), Text}.

ask(Port, Method, Params) ->
    Id = erlang:unique_integer([positive]),
    say(Port, #{id => Id, method => Method, params => Params}),
    hear(Port, fun(Message) -> maps:get(<<"id">>, Message, none) =:= Id end).

hear_of(Port, Method) ->
    hear(Port, fun(Message) -> maps:get(<<"method">>, Message, none) =:= Method end).

say(Port, Message) ->
    {ok, Json} = erlmcp_shm_json:encode(Message#{jsonrpc => <<"2.0">>}),
    true = port_command(Port, [Json, $\n]).

%% What else there is waits for whoever wants it.
hear(Port, Wanted) ->
    receive
        {Port, {data, {eol, Line}}} ->
            {ok, Message} = erlmcp_shm_json:decode(Line),
            case Wanted(Message) of
                true ->
                    Message;
                false ->
                    Found = hear(Port, Wanted),
                    self() ! {Port, {data, {eol, Line}}},
                    Found
            end
    after 20000 -> error(nothing_heard)
    end.
