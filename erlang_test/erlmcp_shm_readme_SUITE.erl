%% The README's Erlang is run as it stands there, but for the path.
-module(erlmcp_shm_readme_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([the_example_runs/1, the_sys_config_starts_an_exporter/1, the_endpoint_serves/1]).

all() -> [the_example_runs, the_sys_config_starts_an_exporter, the_endpoint_serves].

the_example_runs(Config) ->
    [Example | _] = blocks(),
    eval(at_private_path(Example, Config)),
    ok = gen_server:stop(erlmcp_shm_exporter).

the_sys_config_starts_an_exporter(Config) ->
    Block = hd([B || B <- blocks(), string:find(B, "claude_flow") =/= nomatch]),
    [{erlmcp_shm, [{claude_flow, Map}]}] = eval(at_private_path(Block, Config)),
    ok = application:set_env(erlmcp_shm, claude_flow, Map),
    try
        {ok, _} = application:ensure_all_started(erlmcp_shm),
        ?assertEqual(ok, erlmcp_shm_exporter:export_resource(<<"u">>, <<"v">>, #{})),
        ?assertMatch(#{size := 10485760}, erlmcp_shm_exporter:info())
    after
        ok = application:stop(erlmcp_shm),
        application:unset_env(erlmcp_shm, claude_flow)
    end.

%% At any free port.
the_endpoint_serves(_Config) ->
    [Start, Handler] = [B || B <- blocks(), Word <- ["start_link(#{url", "erlmcp_shm_handler:set"], string:find(B, Word) =/= nomatch],
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    ok = eval(Handler),
    {ok, Ws} = eval(string:replace(Start, "8080", integer_to_list(Port), all)),
    try
        C = erlmcp_shm_wire:ws(Port, "/mcp/ws"),
        Meta = #{<<"io.modelcontextprotocol/protocolVersion">> => <<"2026-07-28">>, <<"io.modelcontextprotocol/clientCapabilities">> => #{}},
        Params = #{name => <<"add">>, arguments => #{a => 1, b => 2}, '_meta' => Meta},
        ok = erlmcp_shm_wire:ws_send(C, erlmcp_shm_wire:json(#{jsonrpc => <<"2.0">>, id => 1, method => <<"tools/call">>, params => Params})),
        {Answer, _} = erlmcp_shm_wire:ws_text(C),
        ?assertMatch(#{<<"result">> := #{<<"content">> := [#{<<"text">> := <<"3">>}]}}, Answer)
    after
        erlmcp_shm_handler:set(undefined),
        erlmcp_shm_transport_ws:close(Ws)
    end.

%% The fenced blocks of Erlang, in order.
blocks() ->
    {ok, File} = erlmcp_shm_test:project_file("README.md"),
    {ok, Text} = file:read_file(File),
    Pattern = "```erlang\\n(.*?)```",
    {match, Found} = re:run(Text, Pattern, [global, dotall, {capture, all_but_first, list}]),
    [Block || [Block] <- Found].

at_private_path(Block, Config) ->
    Path = filename:join(proplists:get_value(priv_dir, Config), "readme.bin"),
    string:replace(Block, "/dev/shm/erlmcp_export.bin", Path).

eval(Block) ->
    {ok, Tokens, _} = erl_scan:string(lists:flatten(Block)),
    {ok, Exprs} = erl_parse:parse_exprs(Tokens),
    {value, Value, _} = erl_eval:exprs(Exprs, erl_eval:new_bindings()),
    Value.
