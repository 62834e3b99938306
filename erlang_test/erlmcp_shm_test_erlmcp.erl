%% Stand-ins for erlmcp, which these suites do not depend on: a server that is asked with the same messages and keeps
%% the same state as erlmcp_server (of three generations) or erlmcp_stdio_server, and a registry. What is the
%% same is what erlmcp_shm_erlmcp knows of them; the functions of this module are named as theirs.
%%
%% Generations: `old' (0.2 and 0.3: the transport first in the state), `classic' (0.4 and 0.5), `newest' (longer records,
%% refuses URIs without a scheme, deletes) and `stdio'.
-module(erlmcp_shm_test_erlmcp).

-behaviour(gen_server).

-export([start/1, start/2, stop/1, add_resource/3, add_tool/3, add_prompt/3, delete/3, notify/2, has/1, debug/1]).
-export([real_paths/1, stand_in/3, unload/1, registry/1, register_server/2, unregister_server/1, unload_registry/0, find_server/1, list_servers/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

start(Generation) ->
    {ok, Pid} = gen_server:start(?MODULE, Generation, []),
    Pid.

start(Name, Generation) ->
    {ok, Pid} = gen_server:start({local, Name}, ?MODULE, Generation, []),
    Pid.

stop(Server) ->
    gen_server:stop(Server).

%% `Content' is a function, or content.
add_resource(Server, Uri, Content) ->
    case generation(Server) of
        stdio -> gen_server:call(Server, {add_resource, Uri, <<"r">>, Content, <<"text/plain">>});
        _ -> gen_server:call(Server, {add_resource, Uri, Content})
    end.

add_tool(Server, Name, Schema) ->
    Handler = fun(_) -> <<"called">> end,
    case {generation(Server), Schema} of
        {stdio, _} -> gen_server:call(Server, {add_tool, Name, <<"t">>, Handler, Schema});
        {_, undefined} -> gen_server:call(Server, {add_tool, Name, Handler});
        {_, _} -> gen_server:call(Server, {add_tool_with_schema, Name, Handler, Schema})
    end.

%% With the names of its arguments.
add_prompt(Server, Name, Arguments) ->
    Handler = fun(_) -> <<"said">> end,
    case {generation(Server), Arguments} of
        {stdio, _} ->
            gen_server:call(Server, {add_prompt, Name, <<"p">>, Handler, [#{<<"name">> => A} || A <- Arguments]});
        {_, []} ->
            gen_server:call(Server, {add_prompt, Name, Handler});
        {_, _} ->
            Records = [{mcp_prompt_argument, A, undefined, true} || A <- Arguments],
            gen_server:call(Server, {add_prompt_with_args, Name, Handler, Records})
    end.

%% Only the newest deletes by itself; from the others, somebody takes it out of the state.
delete(Server, Kind, Key) ->
    case generation(Server) of
        newest ->
            gen_server:call(Server, {list_to_existing_atom("delete_" ++ atom_to_list(Kind)), Key});
        Other ->
            At = place(Kind, Other),
            _ = sys:replace_state(Server, fun(S) -> setelement(At, S, maps:remove(Key, element(At, S))) end),
            ok
    end.

notify(Server, Uri) ->
    gen_server:cast(Server, {notify_resource_updated, Uri, #{}}).

%% What it has, by kind.
has(Server) ->
    State = sys:get_state(Server),
    Generation = generation(State),
    maps:from_list([{Kind, lists:sort(maps:keys(element(place(Kind, Generation), State)))} || Kind <- [resource, tool, prompt]]).

%% How many functions are installed in it.
debug(Server) ->
    {status, _, _, [_, _, _, Debug | _]} = sys:get_status(Server),
    length(Debug).

%%% The process

init(old) ->
    {ok, {state, some_transport, #{socket => none}, caps, #{}, #{}, #{}, #{}, #{}, #{}, false}};
init(classic) ->
    {ok, {state, an_id, caps, #{}, #{}, #{}, #{}, #{}, #{}, false}};
init(newest) ->
    Rest = [#{}, #{}, undefined, undefined, false, undefined, #{}, #{}, #{}, undefined],
    {ok, list_to_tuple([state, an_id, initialization, undefined, 30000, caps, undefined, undefined, #{}, #{}, #{}, #{} | Rest])};
init(stdio) ->
    {ok, {state, #{}, #{}, #{}, false, undefined}}.

generation(Server) when not is_tuple(Server) -> gen_server:call(Server, generation);
generation(State) ->
    case tuple_size(State) of
        11 -> old;
        10 -> classic;
        22 -> newest;
        6 -> stdio
    end.

%% Where in the state the map is.
place(tool, stdio) -> 2;
place(resource, stdio) -> 3;
place(prompt, stdio) -> 4;
place(Kind, old) -> place(Kind) + 1;
place(Kind, classic) -> place(Kind);
place(Kind, newest) -> place(Kind) + 5.

place(resource) -> 4;
place(tool) -> 6;
place(prompt) -> 7.

handle_call({add_resource, Uri, Handler}, _From, State) ->
    case {generation(State), binary:match(Uri, <<":">>)} of
        {newest, nomatch} ->
            {reply, {error, {-32602, <<"invalid">>, #{}}}, State};
        {newest, _} ->
            More = [undefined, undefined, undefined, undefined, undefined],
            Record = list_to_tuple([mcp_resource, Uri, Uri, undefined, <<"text/plain">>, undefined | More]),
            {reply, ok, put(resource, Uri, {Record, Handler}, State), hibernate};
        _ ->
            {reply, ok, put(resource, Uri, {{mcp_resource, Uri, Uri, undefined, <<"text/plain">>, undefined}, Handler}, State)}
    end;
handle_call({add_resource, Uri, Description, Handler, Type}, _From, State) ->
    {reply, ok, put(resource, Uri, {Description, Handler, Type}, State)};
handle_call({add_tool, Name, Handler}, _From, State) ->
    {reply, ok, put(tool, Name, {tool(Name, undefined, State), Handler, undefined}, State)};
handle_call({add_tool_with_schema, Name, Handler, Schema}, _From, State) ->
    {reply, ok, put(tool, Name, {tool(Name, Schema, State), Handler, Schema}, State)};
handle_call({add_tool, Name, Description, Handler, Schema}, _From, State) ->
    {reply, ok, put(tool, Name, {Description, Handler, Schema}, State)};
handle_call({add_prompt, Name, Handler}, _From, State) ->
    {reply, ok, put(prompt, Name, {prompt(Name, undefined, State), Handler}, State)};
handle_call({add_prompt_with_args, Name, Handler, Arguments}, _From, State) ->
    {reply, ok, put(prompt, Name, {prompt(Name, Arguments, State), Handler}, State)};
handle_call({add_prompt, Name, Description, Handler, Arguments}, _From, State) ->
    {reply, ok, put(prompt, Name, {Description, Handler, Arguments}, State)};
handle_call({delete_resource, Key}, _From, State) ->
    delete_from(resource, Key, State);
handle_call({delete_tool, Key}, _From, State) ->
    delete_from(tool, Key, State);
handle_call({delete_prompt, Key}, _From, State) ->
    delete_from(prompt, Key, State);
handle_call(generation, _From, State) ->
    {reply, generation(State), State};
%% As a tool that takes its time is called in the server's process.
handle_call({work, Ms}, _From, State) ->
    timer:sleep(Ms),
    {reply, done, State};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_request}, State}.

handle_cast(_Message, State) ->
    {noreply, State}.

handle_info(_Message, State) ->
    {noreply, State}.

tool(Name, Schema, State) ->
    Record = {mcp_tool, Name, <<"Tool: ", Name/binary>>, Schema},
    case generation(State) of
        newest -> list_to_tuple(tuple_to_list(Record) ++ [undefined, undefined, undefined, false]);
        _ -> Record
    end.

prompt(Name, Arguments, State) ->
    Record = {mcp_prompt, Name, undefined, Arguments},
    case generation(State) of
        newest -> list_to_tuple(tuple_to_list(Record) ++ [undefined]);
        _ -> Record
    end.

put(Kind, Key, Value, State) ->
    At = place(Kind, generation(State)),
    setelement(At, State, (element(At, State))#{Key => Value}).

delete_from(Kind, Key, State) ->
    At = place(Kind, generation(State)),
    case element(At, State) of
        #{Key := _} = Map -> {reply, ok, setelement(At, State, maps:remove(Key, Map))};
        _ -> {reply, {error, not_found}, State}
    end.

%%% The real one

%% Folders of beams that a node with a real erlmcp needs, or none if that module is in none of them.
real_paths(Module) ->
    Libs = string:lexemes(os:getenv("ERLMCP_LIBS", ""), ":"),
    Given = lists:append([[Lib, filename:join(Lib, "ebin") | filelib:wildcard(filename:join(Lib, "*/ebin"))] || Lib <- Libs]),
    Dirs = [Dir || Dir <- Given, filelib:wildcard(filename:join(Dir, "*.beam")) =/= []],
    File = atom_to_list(Module) ++ ".beam",
    case {[Dir || Dir <- Dirs, filelib:is_regular(filename:join(Dir, File))], code:which(Module)} of
        {[_ | _], _} -> Dirs;
        {[], Here} when is_list(Here) -> [filename:dirname(Here) | Dirs];
        _ -> []
    end.

%%% The registry: a module of erlmcp's name that asks a table here

registry(Owner) ->
    ?MODULE = ets:new(?MODULE, [named_table, public, {heir, Owner, none}]),
    stand_in(erlmcp_registry, ?MODULE, [{find_server, 1}, {list_servers, 0}]).

unload_registry() ->
    [ets:delete(Table) || Table <- [ets:whereis(?MODULE)], Table =/= undefined],
    unload(erlmcp_registry).

%% A module of that name whose functions are those of another.
stand_in(Module, Of, Functions) ->
    Exports = [io_lib:format("~s/~b", [Name, Arity]) || {Name, Arity} <- Functions],
    Source = [
        io_lib:format("-module(~s).", [Module]),
        io_lib:format("-export([~s]).", [lists:join(",", Exports)])
        | [io_lib:format("~s(~s) -> ~s:~s(~s).", [Name, arguments(Arity), Of, Name, arguments(Arity)]) || {Name, Arity} <- Functions]
    ],
    {ok, Module, Beam} = compile:forms([form(Line) || Line <- Source]),
    {module, Module} = code:load_binary(Module, "stand-in", Beam),
    ok.

arguments(Arity) ->
    lists:join(",", [io_lib:format("A~b", [N]) || N <- lists:seq(1, Arity)]).

form(Line) ->
    {ok, Tokens, _} = erl_scan:string(lists:flatten(Line)),
    {ok, Form} = erl_parse:parse_form(Tokens),
    Form.

unload(Module) ->
    _ = code:purge(Module),
    _ = code:delete(Module),
    _ = code:purge(Module),
    ok.

register_server(Id, Pid) ->
    true = ets:insert(?MODULE, {Id, {Pid, #{}}}),
    ok.

unregister_server(Id) ->
    true = ets:delete(?MODULE, Id),
    ok.

find_server(Id) ->
    case ets:lookup(?MODULE, Id) of
        [{Id, Server}] -> {ok, Server};
        [] -> {error, not_found}
    end.

list_servers() ->
    ets:tab2list(?MODULE).
