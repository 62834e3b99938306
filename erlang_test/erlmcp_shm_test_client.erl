%% A node of the project's own configuration in another process, and the Rust client of all tiers in a third.
-module(erlmcp_shm_test_client).

-export([free_port/0, configured/2, start_node/1, start_node/2, end_with/1, kill_node/1, await_port/1]).
-export([toml/3, start/2, start/3, ask/2, ask/3, hear/2, stop/1]).

%%% The node

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

%% config/claude_flow.config with a path and a port of ours, with SSE besides, and with a handler. Gives the file.
configured(Config, Port) ->
    {ok, File} = erlmcp_shm_test:project_file("config/claude_flow.config"),
    {ok, [[{erlmcp, [{claude_flow, #{shared_memory := Shared, transports := Transports} = Map}]}]]} = file:consult(File),
    Sse = #{type => sse, priority => 7, config => #{host => "localhost", port => Port, path => "/mcp/sse"}},
    Ours = Map#{
        shared_memory := Shared#{path := erlmcp_shm_test:path(Config)},
        transports := [handled(Transport, Port) || Transport <- Transports ++ [Sse]]
    },
    Scratch = filename:join(proplists:get_value(priv_dir, Config), integer_to_list(Port) ++ ".config"),
    ok = file:write_file(Scratch, io_lib:format("~tp.~n", [[{erlmcp, [{claude_flow, Ours}]}]])),
    Scratch.

handled(#{config := Config} = Transport, Port) ->
    Here =
        case Config of
            #{url := _} -> #{url => "http://localhost:" ++ integer_to_list(Port) ++ "/mcp"};
            #{port := _} -> #{port => Port};
            _ -> #{}
        end,
    Transport#{config := maps:merge(Config#{handler => erlmcp_shm_test_handler}, Here)}.

%% As the configuration says it is started. Whatever becomes of the case, it does not outlive this node.
start_node(File) ->
    start_node(File, []).

start_node(File, More) ->
    Erl = os:find_executable("erl"),
    Args = arguments(File, "erlmcp_shm") ++ ["-run", ?MODULE_STRING, "end_with", os:getpid() | More],
    process(Erl, Args).

%% With room for more sockets than some systems give to a process.
process(Program, Args) ->
    Script = "ulimit -n 8192 2>/dev/null; exec \"$0\" \"$@\"",
    open_port({spawn_executable, "/bin/sh"}, [{args, ["-c", Script, Program | Args]}, {line, 1 bsl 22}, binary, exit_status]).

end_with([Pid]) ->
    _ = spawn(fun Watch() ->
        timer:sleep(500),
        filelib:is_dir("/proc/" ++ Pid) orelse halt(0),
        Watch()
    end),
    ok.

%% With the libraries that this node has.
arguments(File, Start) ->
    Paths = [filename:dirname(code:which(Module)) || Module <- [erlmcp_shm, ?MODULE, cowboy, cow_http, ranch]],
    ["-noshell", "-pa" | Paths] ++ ["-config", filename:rootname(File), "-s" | string:lexemes(Start, " ")].

%% SIGKILL, and until the process is gone.
kill_node(Node) ->
    {os_pid, Pid} = erlang:port_info(Node, os_pid),
    "" = os:cmd("kill -9 " ++ integer_to_list(Pid)),
    receive
        {Node, {exit_status, _}} -> ok
    after 10000 -> error(still_alive)
    end.

%% The transport that starts last has its path.
await_port(Port) ->
    erlmcp_shm_test:eventually(fun() ->
        case gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}]) of
            {ok, Socket} ->
                Request = "GET /mcp/sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n",
                Begin = gen_tcp:send(Socket, Request) =:= ok andalso gen_tcp:recv(Socket, 12, 5000),
                ok = gen_tcp:close(Socket),
                Begin =:= {ok, <<"HTTP/1.1 200">>};
            {error, _} ->
                false
        end
    end).

%%% The client

%% A config.toml of the client for that node. Gives the file.
toml(Config, NodeFile, #{transport := Transport, l2 := L2} = Options) ->
    Port = filename:basename(NodeFile, ".config"),
    At = fun(Scheme, Path) -> [Scheme, "://localhost:", Port, Path] end,
    Strings = lists:join(", ", [["\"", Argument, "\""] || Argument <- arguments(NodeFile, "erlmcp_shm stdio")]),
    Text = [
        ["[mcp]\ntransport = \"", Transport, "\"\n", maps:get(mcp, Options, "")],
        ["[mcp.erlmcp]\n", maps:get(erlmcp, Options, "")],
        ["websocket.url = \"", At("ws", "/mcp/ws"), "\"\n"],
        ["http.url = \"", At("http", "/mcp"), "\"\n"],
        ["sse.url = \"", At("http", "/mcp/sse"), "\"\n"],
        [["stdio.command = \"erl\"\nstdio.args = [", Strings, "]\n"] || maps:get(without, Options, none) =/= stdio],
        ["shared_memory.path = \"", erlmcp_shm_test:path(Config), "\"\n"],
        ["[cache]\nl2.enabled = ", atom_to_list(L2), "\n"],
        maps:get(more, Options, "")
    ],
    Name = [filename:rootname(NodeFile), $-, Transport, $-, atom_to_list(L2), ".toml"],
    File = unicode:characters_to_list(Name),
    ok = file:write_file(File, Text),
    File.

start(Toml, Revision) ->
    start("examples/hybrid", Toml, [atom_to_list(Revision) || Revision =:= initialize]).

start(Program, Toml, More) ->
    {ok, Command} = erlmcp_shm_test:binary(Program),
    process(Command, [Toml | More]).

%% What came of it: `{ok, Result, Tier, Version}', `{ok, Result}' or `{error, Name}'.
ask(Client, Do) ->
    ask(Client, Do, #{}).

ask(Client, Do, More) ->
    {ok, Order} = erlmcp_shm_json:encode(More#{do => atom_to_binary(Do)}),
    true = port_command(Client, [Order, $\n]),
    hear(Client, {Do, More}).

%% The next thing that it says.
hear(Client, Asked) ->
    receive
        {Client, {data, {eol, Line}}} ->
            case erlmcp_shm_json:decode(Line) of
                {ok, #{<<"ok">> := Result, <<"tier">> := Tier, <<"version">> := Version}} -> {ok, Result, Tier, Version};
                {ok, #{<<"ok">> := Result}} -> {ok, Result};
                {ok, #{<<"error">> := Name} = Error} ->
                    ct:log("~p: ~p", [Asked, Error]),
                    {error, Name}
            end;
        {Client, {exit_status, Status}} -> error({client_failed, Status})
    after 300000 -> error({client_silent, Asked})
    end.

%% The child node of a client over stdio ends before the client does.
stop(Client) ->
    {os_pid, Pid} = erlang:port_info(Client, os_pid),
    true = port_close(Client),
    erlmcp_shm_test:eventually(fun() -> os:cmd(io_lib:format("kill -0 ~b 2>/dev/null || echo gone", [Pid])) =/= "" end).
