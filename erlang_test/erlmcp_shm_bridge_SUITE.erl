%% The bridge, with stand-ins for erlmcp's servers (see erlmcp_shm_test_erlmcp), and with erlmcp itself where it is on
%% the code path or in the folders of ERLMCP_LIBS (as in ERL_LIBS; separated by colons).
-module(erlmcp_shm_bridge_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(B, erlmcp_shm_bridge).
-define(E, erlmcp_shm_exporter).
-define(S, erlmcp_shm_test_erlmcp).
%% Long enough for nothing but what the bridge was told of to have happened.
-define(NEVER, 3600000).

all() ->
    [
        every_generation,
        what_is_published,
        resources,
        resources_that_fail,
        prompts_over_mcp,
        same_name,
        not_ours,
        except_and_kinds,
        server_ends_and_comes_back,
        server_comes_back_with_less,
        server_ends_for_good,
        through_the_registry,
        all_of_the_registry,
        bridge_killed,
        bridge_crashes,
        bridge_restarted,
        detached,
        module_loaded_anew,
        busy_server,
        flood,
        exporter_restarts,
        store_changed_by_others,
        state_that_nobody_knows,
        odd_entries,
        tap_removed_by_others,
        cost,
        configuration,
        from_sys_config,
        real_erlmcp
    ].

init_per_testcase(Case, Config) ->
    process_flag(trap_exit, true),
    With = [{case_name, Case} | Config],
    _ = erlmcp_shm_test:start(#{path => erlmcp_shm_test:path(With), size => 4 bsl 20}),
    With.

end_per_testcase(_Case, _Config) ->
    _ = logger:remove_handler(?MODULE),
    _ = erlmcp_shm_handler:set(undefined),
    erlmcp_shm_test:stop(?B),
    %% What one that was killed would have gone on with.
    ok = ?B:forget(),
    ?S:unload_registry(),
    erlmcp_shm_test:stop().

%%% What is published

%% Before the bridge comes, while it is there, and deleted; added anew; of every generation of servers.
every_generation(_Config) ->
    bridge(#{}),
    [one_generation(Generation) || Generation <- [old, classic, newest, stdio]].

one_generation(Generation) ->
    ct:pal("~p", [Generation]),
    Server = ?S:start(Generation),
    ok = ?S:add_tool(Server, <<"early">>, undefined),
    ok = ?S:add_resource(Server, <<"mem:early">>, fun(Uri) -> ["of ", Uri] end),
    ok = ?S:add_prompt(Server, <<"early">>, [<<"who">>]),
    ok = ?B:attach(#{server => Server, name => Generation}),
    ok = ?B:sync(Generation),
    ?assertEqual(?S:has(Server), published()),
    ok = ?S:add_tool(Server, <<"late">>, #{<<"type">> => <<"object">>, <<"a">> => 1}),
    ok = ?S:add_resource(Server, <<"mem:late">>, fun(_) -> <<"late">> end),
    ok = ?S:add_prompt(Server, <<"late">>, []),
    erlmcp_shm_test:eventually(fun() -> published() =:= ?S:has(Server) end),
    ?assertEqual(#{resource => [<<"mem:early">>, <<"mem:late">>], tool => [<<"early">>, <<"late">>], prompt => [<<"early">>, <<"late">>]}, published()),
    ?assertMatch({ok, <<"of mem:early">>, _}, ?E:lookup(resource, <<"mem:early">>)),
    ?assertMatch({ok, <<"{\"a\":1,\"type\":\"object\"}">>, _}, ?E:lookup(tool, <<"late">>)),
    ok = ?S:add_tool(Server, <<"late">>, #{<<"a">> => 2}),
    ok = ?S:add_resource(Server, <<"mem:late">>, fun(_) -> <<"later">> end),
    erlmcp_shm_test:eventually(fun() -> data(tool, <<"late">>) =:= <<"{\"a\":2}">> end),
    erlmcp_shm_test:eventually(fun() -> data(resource, <<"mem:late">>) =:= <<"later">> end),
    ok = ?S:delete(Server, tool, <<"early">>),
    ok = ?S:delete(Server, resource, <<"mem:early">>),
    ok = ?S:delete(Server, prompt, <<"early">>),
    case Generation of
        %% It deletes when it is asked to, which is seen at once. What is taken out of the others is seen by looking.
        newest -> erlmcp_shm_test:eventually(fun() -> published() =:= ?S:has(Server) end);
        _ -> ok = ?B:sync(Generation)
    end,
    ?assertEqual(#{resource => [<<"mem:late">>], tool => [<<"late">>], prompt => [<<"late">>]}, published()),
    %% What a server refuses does not become known.
    _ = ?S:add_resource(Server, <<"no scheme">>, fun(_) -> <<>> end),
    ok = ?B:sync(Generation),
    ?assertEqual(?S:has(Server), published()),
    ok = ?B:detach(Generation),
    ?assertEqual(nothing(), published()),
    ?assertEqual(0, ?S:debug(Server)),
    ok = ?S:stop(Server).

%% Schemas as erlmcp would write them, descriptions, and what goes along.
what_is_published(_Config) ->
    Server = attached(classic),
    ok = ?S:add_tool(Server, <<"t">>, #{type => object, <<"required">> => [a, <<"b">>], properties => [{a, [{type, number}]}], nothing => [{}]}),
    Everything = {mcp_resource, <<"mem:x">>, <<"x">>, <<"an x">>, <<"a/b">>, #{colour => red}, undefined, undefined, undefined, #{<<"priority">> => 1}},
    _ = sys:replace_state(Server, fun(S) -> setelement(4, S, #{<<"mem:x">> => {Everything, <<"static">>}}) end),
    ok = ?S:add_prompt(Server, <<"p">>, [<<"who">>]),
    ok = ?B:sync(it),
    ?assertEqual(
        #{
            <<"type">> => <<"object">>,
            <<"required">> => [<<"a">>, <<"b">>],
            <<"properties">> => #{<<"a">> => #{<<"type">> => <<"number">>}},
            <<"nothing">> => #{}
        },
        json(data(tool, <<"t">>))
    ),
    ?assertEqual(#{<<"description">> => <<"Tool: t">>, <<"erlmcp_server">> => <<"it">>}, metadata(tool, <<"t">>)),
    ?assertEqual(<<"static">>, data(resource, <<"mem:x">>)),
    ?assertEqual(
        #{
            <<"name">> => <<"x">>,
            <<"description">> => <<"an x">>,
            <<"mime_type">> => <<"a/b">>,
            <<"colour">> => <<"red">>,
            <<"annotations">> => #{<<"priority">> => 1},
            <<"erlmcp_server">> => <<"it">>
        },
        metadata(resource, <<"mem:x">>)
    ),
    ?assertEqual(#{<<"arguments">> => [#{<<"name">> => <<"who">>, <<"required">> => true}]}, json(data(prompt, <<"p">>))).

%% Functions are called once, and when the resource is said to be another; elsewhere than in the server.
resources(_Config) ->
    Server = attached(newest),
    Called = counters:new(1, []),
    Self = self(),
    ok = ?S:add_resource(Server, <<"mem:n">>, fun(Uri) ->
        Self ! {called, self(), Uri},
        ok = counters:add(Called, 1, 1),
        integer_to_binary(counters:get(Called, 1))
    end),
    erlmcp_shm_test:eventually(fun() -> data(resource, <<"mem:n">>) =:= <<"1">> end),
    receive
        {called, Pid, <<"mem:n">>} -> ?assertNotEqual(Server, Pid)
    end,
    ok = ?B:sync(it),
    ok = ?B:sync(it),
    ?assertEqual(<<"1">>, data(resource, <<"mem:n">>)),
    ok = ?S:notify(Server, <<"mem:n">>),
    erlmcp_shm_test:eventually(fun() -> data(resource, <<"mem:n">>) =:= <<"2">> end),
    %% Said of what is not there.
    ok = ?S:notify(Server, <<"mem:none">>),
    %% Contents of other forms.
    Png = <<137, "PNG">>,
    ok = ?S:add_resource(Server, <<"mem:text">>, fun(_) -> {mcp_content, <<"text">>, <<"x">>, undefined, <<"text/x">>} end),
    ok = ?S:add_resource(Server, <<"mem:blob">>, fun(_) -> {mcp_content, <<"image">>, undefined, base64:encode(Png), <<"image/png">>, [], undefined} end),
    ok = ?B:sync(it),
    ?assertEqual({<<"x">>, <<"text/x">>}, {data(resource, <<"mem:text">>), maps:get(<<"mime_type">>, metadata(resource, <<"mem:text">>))}),
    ?assertEqual({Png, <<"image/png">>}, {data(resource, <<"mem:blob">>), maps:get(<<"mime_type">>, metadata(resource, <<"mem:blob">>))}),
    ?assertEqual(2, counters:get(Called, 1)).

%% Nothing is published for what cannot be evaluated, not even what was good before, and the rest is none the worse.
resources_that_fail(_Config) ->
    Server = attached(classic, #{evaluate_timeout => 200}),
    ok = ?S:add_resource(Server, <<"mem:good">>, fun(_) -> <<"good">> end),
    ok = ?S:add_resource(Server, <<"mem:bad">>, fun(_) -> <<"once good">> end),
    ok = ?B:sync(it),
    ?assertEqual(<<"once good">>, data(resource, <<"mem:bad">>)),
    Hung = ets:new(hung, [public]),
    ok = ?S:add_resource(Server, <<"mem:bad">>, fun(_) -> error(broken) end),
    ok = ?S:add_resource(Server, <<"mem:slow">>, fun(_) ->
        ets:insert(Hung, {self()}),
        timer:sleep(infinity)
    end),
    ok = ?S:add_resource(Server, <<"mem:exits">>, fun(_) -> exit(kill_me) end),
    ok = ?S:add_resource(Server, <<"mem:killed">>, fun(_) -> exit(self(), kill) end),
    ok = ?S:add_resource(Server, <<"mem:odd">>, fun(_) -> #{} end),
    ok = ?S:add_tool(Server, <<"odd">>, #{<<"a">> => self()}),
    {error, {refused, Refused}} = ?B:sync(it),
    ?assertMatch(
        [
            {resource, <<"mem:bad">>, {not_evaluated, {error, broken}}},
            {resource, <<"mem:exits">>, {not_evaluated, {exit, kill_me}}},
            {resource, <<"mem:killed">>, {not_evaluated, killed}},
            {resource, <<"mem:odd">>, {not_evaluated, {bad_content, #{}}}},
            {resource, <<"mem:slow">>, {not_evaluated, timeout}},
            {tool, <<"odd">>, {not_json, _}}
        ],
        Refused
    ),
    ?assertMatch(#{<<"it">> := #{refused := Refused, published := 1}}, ?B:info()),
    ?assertEqual((nothing())#{resource := [<<"mem:good">>]}, published()),
    [{Worker}] = ets:tab2list(Hung),
    ?assertNot(is_process_alive(Worker)),
    %% Functions that failed are not called again and again, but when there is reason to.
    {error, {refused, Refused}} = ?B:sync(it),
    ?assertEqual(1, ets:info(Hung, size)),
    ok = ?S:add_resource(Server, <<"mem:slow">>, fun(_) -> <<"quick">> end),
    ok = ?S:add_tool(Server, <<"odd">>, #{}),
    erlmcp_shm_test:eventually(fun() -> data(resource, <<"mem:slow">>) =:= <<"quick">> end),
    ?assertEqual(<<"{}">>, data(tool, <<"odd">>)).

%% A prompt that a function makes is listed, and asked for where it can be made.
prompts_over_mcp(_Config) ->
    Server = attached(classic),
    ok = ?S:add_prompt(Server, <<"p">>, [<<"who">>]),
    ok = ?B:sync(it),
    {ok, #{prompts := [#{name := <<"p">>, arguments := [#{<<"name">> := <<"who">>}]}]}} = erlmcp_shm_mcp:list(prompt, undefined, 10),
    ?assertEqual({error, not_found}, erlmcp_shm_mcp:prompt(<<"p">>, #{<<"who">> => <<"me">>})),
    ?assertEqual({error, {missing_argument, <<"who">>}}, erlmcp_shm_mcp:prompt(<<"p">>, #{})).

%%% Names

same_name(_Config) ->
    log_to_us(),
    bridge(#{}),
    [First, Second] = [?S:start(classic), ?S:start(newest)],
    ok = ?B:attach(#{server => First, name => first}),
    ok = ?S:add_tool(First, <<"t">>, #{<<"of">> => <<"first">>}),
    ok = ?B:sync(first),
    ok = ?B:attach(#{server => Second, name => second}),
    ok = ?S:add_tool(Second, <<"t">>, #{<<"of">> => <<"second">>}),
    ok = ?S:add_tool(Second, <<"u">>, undefined),
    ok = ?S:add_resource(Second, <<"mem:r">>, fun(_) -> <<"second">> end),
    Taken = [{tool, <<"t">>, {taken, <<"first">>}}],
    ?assertEqual({error, {refused, Taken}}, ?B:sync(second)),
    ?assertEqual({error, {refused, Taken}}, ?B:sync(second)),
    ?assertMatch(#{<<"first">> := #{refused := []}, <<"second">> := #{refused := Taken}}, ?B:info()),
    ?assertEqual(<<"{\"of\":\"first\"}">>, data(tool, <<"t">>)),
    %% Said once.
    ?assertEqual([{<<"second">>, <<"t">>}], [{Name, Key} || #{server := Name, key := Key, trouble := {taken, <<"first">>}} <- logged()]),
    %% Deleting the one that is not published withdraws nobody else's.
    ok = ?S:delete(Second, tool, <<"t">>),
    ok = ?B:sync(second),
    ?assertEqual(<<"{\"of\":\"first\"}">>, data(tool, <<"t">>)),
    ok = ?S:add_tool(Second, <<"t">>, #{<<"of">> => <<"second">>}),
    ok = ?B:detach(first),
    ok = ?B:sync(second),
    ?assertEqual(<<"{\"of\":\"second\"}">>, data(tool, <<"t">>)),
    %% With prefixes both have room.
    ok = ?B:attach(#{server => First, name => first, prefix => #{tool => "first_", resource => "first+"}}),
    ok = ?S:add_resource(First, <<"mem:r">>, fun(Uri) -> Uri end),
    ok = ?B:sync(first),
    ?assertEqual(#{resource => [<<"first+mem:r">>, <<"mem:r">>], tool => [<<"first_t">>, <<"t">>, <<"u">>], prompt => []}, published()),
    %% The function knows nothing of it.
    ?assertEqual(<<"mem:r">>, data(resource, <<"first+mem:r">>)),
    ok = ?B:detach(first),
    ?assertEqual(#{resource => [<<"mem:r">>], tool => [<<"t">>, <<"u">>], prompt => []}, published()),
    ?assertEqual({error, {already_attached, <<"second">>}}, ?B:attach(#{server => First, name => second})).

%% What was exported by hand.
not_ours(_Config) ->
    ok = ?E:export_resource(<<"mem:r">>, <<"ours">>, #{}),
    Server = attached(classic),
    ok = ?S:add_resource(Server, <<"mem:r">>, fun(_) -> error(not_called) end),
    ?assertEqual({error, {refused, [{resource, <<"mem:r">>, {taken, exporter}}]}}, ?B:sync(it)),
    ok = ?B:detach(it),
    ?assertEqual(<<"ours">>, data(resource, <<"mem:r">>)).

except_and_kinds(_Config) ->
    Server = attached(classic, #{except => ["secret", "mem:clock*", <<"*_internal">>], kinds => [resource, tool]}),
    [ok = ?S:add_tool(Server, Name, undefined) || Name <- [<<"secret">>, <<"secrets">>, <<"*_internal">>, <<"x_internal">>]],
    [ok = ?S:add_resource(Server, Uri, fun(_) -> <<>> end) || Uri <- [<<"mem:clock">>, <<"mem:clock/utc">>, <<"mem:cloc">>]],
    ok = ?S:add_prompt(Server, <<"p">>, []),
    ok = ?B:sync(it),
    ?assertEqual(#{resource => [<<"mem:cloc">>], tool => [<<"secrets">>, <<"x_internal">>], prompt => []}, published()).

%%% Ends

server_ends_and_comes_back(_Config) ->
    bridge(#{}),
    First = ?S:start(bridged_server, classic),
    ok = ?B:attach(#{server => bridged_server}),
    [ok = ?S:add_tool(First, Name, #{<<"of">> => 1}) || Name <- [<<"stays">>, <<"goes">>]],
    ok = ?S:add_resource(First, <<"mem:r">>, fun(_) -> <<"1">> end),
    ok = ?B:sync(bridged_server),
    kill(First),
    erlmcp_shm_test:eventually(fun() -> state(bridged_server) =:= down end),
    Before = published(),
    ?assertEqual(#{resource => [<<"mem:r">>], tool => [<<"goes">>, <<"stays">>], prompt => []}, Before),
    ?assertEqual({error, not_found}, ?B:sync(bridged_server)),
    %% The next one has nothing yet; its predecessor's are spared until it has had time.
    Second = ?S:start(bridged_server, newest),
    erlmcp_shm_test:eventually(fun() -> state(bridged_server) =:= attached end),
    ?assertEqual(Before, published()),
    ok = ?S:add_tool(Second, <<"stays">>, #{<<"of">> => 2}),
    erlmcp_shm_test:eventually(fun() -> data(tool, <<"stays">>) =:= <<"{\"of\":2}">> end),
    ok = ?B:sync(bridged_server),
    ?assertEqual((nothing())#{tool := [<<"stays">>]}, published()),
    ?assertEqual(1, ?S:debug(Second)),
    ok = ?S:stop(Second).

%% What it was spared goes without anybody's asking.
server_comes_back_with_less(_Config) ->
    bridge(#{reconcile_interval => 300}),
    First = ?S:start(bridged_server, classic),
    ok = ?B:attach(#{server => bridged_server}),
    ok = ?S:add_tool(First, <<"t">>, undefined),
    ok = ?B:sync(bridged_server),
    kill(First),
    Second = ?S:start(bridged_server, classic),
    erlmcp_shm_test:eventually(fun() -> maps:get(pid, maps:get(<<"bridged_server">>, ?B:info())) =:= Second end),
    erlmcp_shm_test:eventually(fun() -> published() =:= nothing() end),
    ok = ?S:stop(Second).

server_ends_for_good(_Config) ->
    Server = attached(classic, #{on_down => withdraw}),
    ok = ?S:add_tool(Server, <<"t">>, undefined),
    ok = ?B:sync(it),
    ok = ?S:stop(Server),
    erlmcp_shm_test:eventually(fun() -> published() =:= nothing() end),
    ?assertMatch(#{<<"it">> := #{state := down, pid := none, published := 0}}, ?B:info()),
    ?assertEqual({error, noproc}, ?B:sync(it)),
    %% Its name can be given to another.
    Next = ?S:start(classic),
    ok = ?S:add_tool(Next, <<"n">>, undefined),
    ok = ?B:attach(#{server => Next, name => <<"it">>}),
    ok = ?B:sync(it),
    ?assertEqual((nothing())#{tool := [<<"n">>]}, published()),
    %% What was never there is not there.
    ?assertEqual({error, not_attached}, ?B:sync(other)),
    ?assertEqual({error, not_attached}, ?B:detach(other)).

through_the_registry(_Config) ->
    ok = ?S:registry(self()),
    bridge(#{}),
    ok = ?B:attach(#{server => <<"calc">>}),
    ?assertEqual({error, not_found}, ?B:sync(<<"calc">>)),
    First = ?S:start(newest),
    ok = ?S:add_tool(First, <<"t">>, #{<<"of">> => 1}),
    ok = ?S:register_server(<<"calc">>, First),
    ok = ?B:sync(<<"calc">>),
    ?assertEqual(<<"{\"of\":1}">>, data(tool, <<"t">>)),
    %% Another process under the name, while the first lives.
    Second = ?S:start(newest),
    ok = ?S:add_tool(Second, <<"t">>, #{<<"of">> => 2}),
    ok = ?S:register_server(<<"calc">>, Second),
    ok = ?B:sync(<<"calc">>),
    ?assertEqual(<<"{\"of\":2}">>, data(tool, <<"t">>)),
    erlmcp_shm_test:eventually(fun() -> ?S:debug(First) =:= 0 end),
    ok = ?S:add_tool(First, <<"u">>, undefined),
    %% Forgotten by the registry, it is still there.
    ok = ?S:unregister_server(<<"calc">>),
    ok = ?S:add_tool(Second, <<"v">>, undefined),
    ok = ?B:sync(<<"calc">>),
    ?assertEqual((nothing())#{tool := [<<"t">>, <<"v">>]}, published()).

all_of_the_registry(_Config) ->
    ok = ?S:registry(self()),
    [A, B, C] = [?S:start(Generation) || Generation <- [newest, classic, stdio]],
    ok = ?S:register_server(a, A),
    [ok = ?S:add_tool(Server, Name, undefined) || {Server, Name} <- [{A, <<"a">>}, {B, <<"b">>}, {C, <<"c">>}]],
    bridge(#{servers => all}),
    erlmcp_shm_test:eventually(fun() -> published() =:= (nothing())#{tool := [<<"a">>]} end),
    ok = ?S:register_server(<<"b">>, B),
    %% By hand, beside those.
    ok = ?B:attach(#{server => C, name => c}),
    erlmcp_shm_test:eventually(fun() -> published() =:= (nothing())#{tool := [<<"a">>, <<"b">>, <<"c">>]} end),
    %% One that is detached stays so, though the registry lists it as before: what came after it is found.
    ok = ?B:detach(<<"b">>),
    ok = ?S:unregister_server(a),
    ok = ?S:register_server(<<"d">>, A),
    erlmcp_shm_test:eventually(fun() -> is_map_key(<<"d">>, ?B:info()) end),
    ?assertNot(is_map_key(<<"b">>, ?B:info())),
    ok = ?B:attach(#{server => <<"b">>}),
    ok = ?B:sync(<<"b">>),
    ?assertEqual((nothing())#{tool := [<<"a">>, <<"b">>, <<"c">>]}, published()).

%% The server does not notice, and at its next message nothing of the bridge is left in it.
bridge_killed(_Config) ->
    Server = attached(classic),
    ok = ?S:add_tool(Server, <<"t">>, undefined),
    ok = ?B:sync(it),
    ?assertEqual(1, ?S:debug(Server)),
    Hung = ets:new(hung, [public]),
    ok = ?S:add_resource(Server, <<"mem:slow">>, fun(_) ->
        ets:insert(Hung, {self()}),
        timer:sleep(infinity)
    end),
    erlmcp_shm_test:eventually(fun() -> ets:info(Hung, size) =:= 1 end),
    kill(whereis(?B)),
    ok = ?S:add_tool(Server, <<"while nobody listens">>, undefined),
    ?assertEqual(0, ?S:debug(Server)),
    %% Nor is anything left of it elsewhere.
    [{Worker}] = ets:tab2list(Hung),
    erlmcp_shm_test:eventually(fun() -> not is_process_alive(Worker) end),
    ?assertEqual({error, not_started}, ?B:sync(it)),
    ?assertEqual({error, not_started}, ?B:info()).

%% The next one goes on with what was attached and detached by hand; after an orderly end, configuration alone counts.
bridge_crashes(_Config) ->
    {ok, Sup} = supervisor:start_link(erlmcp_shm_sup, {#{enabled => false}, node}),
    Named = ?S:start(bridged_server, classic),
    Spec = ?B:child_spec(#{servers => [#{server => bridged_server}], reconcile_interval => ?NEVER}),
    {ok, Bridge} = supervisor:start_child(Sup, Spec),
    Server = ?S:start(newest),
    ok = ?B:attach(#{server => Server, name => it, prefix => "it_"}),
    ok = ?B:detach(bridged_server),
    kill(Bridge),
    Attached = fun() ->
        case ?B:info() of
            #{<<"it">> := #{state := attached}} = Servers -> maps:keys(Servers) =:= [<<"it">>];
            _ -> false
        end
    end,
    erlmcp_shm_test:eventually(Attached),
    ok = ?S:add_tool(Server, <<"t">>, undefined),
    erlmcp_shm_test:eventually(fun() -> published() =:= (nothing())#{tool := [<<"it_t">>]} end),
    ok = supervisor:terminate_child(Sup, ?B),
    {ok, _} = supervisor:restart_child(Sup, ?B),
    ?assertEqual([<<"bridged_server">>], maps:keys(?B:info())),
    ok = gen_server:stop(Sup),
    ok = ?S:stop(Named).

%% The entries stay, are known again, and those that are gone meanwhile go; after an orderly end as well as after a kill, and
%% after another start of the whole store.
bridge_restarted(Config) ->
    Server = attached(newest),
    Options = #{server => Server, name => it},
    Names = [<<"n", (integer_to_binary(N))/binary>> || N <- lists:seq(1, 2500)],
    [ok = ?S:add_tool(Server, Name, undefined) || Name <- Names],
    ok = ?E:export_tool_schema(<<"by hand">>, #{}, #{}),
    ok = ?B:sync(it),
    restart_bridge(fun() -> kill(whereis(?B)) end, hd(Names), Options),
    restart_bridge(fun() -> gen_server:stop(?B) end, lists:nth(2, Names), Options),
    restart_bridge(
        fun() ->
            ok = gen_server:stop(?B),
            ?assertEqual(0, ?S:debug(Server)),
            erlmcp_shm_test:stop(),
            _ = erlmcp_shm_test:start(#{path => erlmcp_shm_test:path(Config), size => 4 bsl 20})
        end,
        lists:nth(3, Names),
        Options
    ),
    ?assertEqual((nothing())#{tool := lists:sort([<<"by hand">> | lists:nthtail(3, Names)])}, published()).

restart_bridge(End, Gone, #{server := Server} = Options) ->
    End(),
    ok = ?S:delete(Server, tool, Gone),
    ?assertNotEqual(undefined, data(tool, Gone)),
    bridge(#{servers => [Options]}),
    ok = ?B:sync(it),
    ?assertEqual(undefined, data(tool, Gone)).

detached(_Config) ->
    Server = attached(classic),
    ok = ?S:add_tool(Server, <<"t">>, undefined),
    ok = ?B:sync(it),
    ok = ?B:detach(it),
    ?assertEqual(nothing(), published()),
    ?assertEqual(0, ?S:debug(Server)),
    ok = ?S:add_tool(Server, <<"u">>, undefined),
    ?assertEqual(nothing(), published()),
    ?assertEqual(#{}, ?B:info()).

%% A process that has a fun of a version of a module is killed when that version is purged. The server has none.
module_loaded_anew(_Config) ->
    Server = attached(classic),
    Monitor = monitor(process, Server),
    [
        begin
            ok = ?S:add_tool(Server, <<"t">>, #{<<"n">> => N}),
            [
                begin
                    _ = code:purge(Module),
                    {module, Module} = code:load_file(Module)
                end
             || Module <- [erlmcp_shm_tap, erlmcp_shm_erlmcp]
            ]
        end
     || N <- lists:seq(1, 5)
    ],
    ok = ?S:add_tool(Server, <<"t">>, #{<<"n">> => 6}),
    erlmcp_shm_test:eventually(fun() -> data(tool, <<"t">>) =:= <<"{\"n\":6}">> end),
    receive
        {'DOWN', Monitor, process, _, Reason} -> error(Reason)
    after 0 -> ok
    end.

%% Nobody waits for a server that is at work, and it is asked no more than once.
busy_server(_Config) ->
    Server = attached(classic, #{reconcile_interval => 20}),
    Other = ?S:start(classic),
    ok = ?B:sync(it),
    Self = self(),
    Caller = spawn_link(fun() -> Self ! {self(), gen_server:call(Server, {work, 1500}, infinity)} end),
    timer:sleep(500),
    {message_queue_len, Asked} = process_info(Server, message_queue_len),
    ?assert(Asked =< 1),
    %% Meanwhile another one is attached and published.
    ok = ?B:attach(#{server => Other, name => other}),
    ok = ?S:add_tool(Other, <<"t">>, undefined),
    ok = ?B:sync(other),
    ?assertMatch({ok, _, _}, ?E:lookup(tool, <<"t">>)),
    %% And one that is at work can be let go of; its tap goes when it has time.
    ok = ?B:detach(it),
    receive
        {Caller, done} -> ok
    end,
    _ = gen_server:call(Server, anything),
    ?assertEqual(0, ?S:debug(Server)).

%% A bridge that does not keep up has a bounded number of messages to catch up with, and then looks for itself.
flood(_Config) ->
    Server = attached(classic),
    ok = ?B:sync(it),
    ok = sys:suspend(?B),
    Names = [<<"n", (integer_to_binary(N))/binary>> || N <- lists:seq(1, 5000)],
    [ok = ?S:add_tool(Server, Name, undefined) || Name <- Names],
    ok = ?S:add_tool(Server, hd(Names), #{<<"last">> => true}),
    {message_queue_len, Queued} = process_info(whereis(?B), message_queue_len),
    ?assert(Queued =< 1010),
    ok = sys:resume(?B),
    erlmcp_shm_test:eventually(fun() -> length(maps:get(tool, published())) =:= 5000 end),
    erlmcp_shm_test:eventually(fun() -> data(tool, hd(Names)) =:= <<"{\"last\":true}">> end),
    %% And from then on it hears again.
    ok = ?S:add_tool(Server, <<"after">>, undefined),
    erlmcp_shm_test:eventually(fun() -> data(tool, <<"after">>) =/= undefined end).

%% What could not be published is published soon.
exporter_restarts(Config) ->
    Server = attached(classic),
    ok = ?S:add_tool(Server, <<"before">>, undefined),
    ok = ?B:sync(it),
    kill(whereis(?E)),
    ok = ?S:add_tool(Server, <<"while">>, undefined),
    ok = ?S:add_resource(Server, <<"mem:while">>, fun(_) -> <<"x">> end),
    erlmcp_shm_test:eventually(fun() -> length(maps:get(refused, maps:get(<<"it">>, ?B:info()))) =:= 2 end),
    _ = erlmcp_shm_test:start(#{path => erlmcp_shm_test:path(Config), size => 4 bsl 20}),
    erlmcp_shm_test:eventually(fun() ->
        published() =:= #{resource => [<<"mem:while">>], tool => [<<"before">>, <<"while">>], prompt => []}
    end).

%% Looking puts right what others did to the store.
store_changed_by_others(_Config) ->
    Server = attached(classic, #{reconcile_interval => 50}),
    ok = ?S:add_tool(Server, <<"t">>, undefined),
    ok = ?S:add_resource(Server, <<"mem:r">>, fun(_) -> <<"r">> end),
    ok = ?B:sync(it),
    ok = ?E:invalidate(tool, <<"t">>),
    ok = ?E:invalidate(resource, <<"mem:r">>),
    %% By itself, without anybody asking.
    erlmcp_shm_test:eventually(fun() -> data(tool, <<"t">>) =/= undefined andalso data(resource, <<"mem:r">>) =:= <<"r">> end),
    %% It is somebody else's from now on.
    ok = ?E:export_tool_schema(<<"t">>, #{mine => true}, #{}),
    ?assertEqual({error, {refused, [{tool, <<"t">>, {taken, exporter}}]}}, ?B:sync(it)),
    ?assertEqual(<<"{\"mine\":true}">>, data(tool, <<"t">>)).

%% A server that shows what nobody understands has not deleted everything.
state_that_nobody_knows(_Config) ->
    Server = attached(classic),
    ok = ?S:add_tool(Server, <<"t">>, undefined),
    ok = ?B:sync(it),
    State = sys:get_state(Server),
    _ = sys:replace_state(Server, fun(_) -> {another, State} end),
    ?assertEqual({error, unknown_state}, ?B:sync(it)),
    ?assertEqual((nothing())#{tool := [<<"t">>]}, published()),
    _ = sys:replace_state(Server, fun(_) -> State end),
    ok = ?B:sync(it).

%% Entries that are no such thing in MCP are refused, and the rest is published.
odd_entries(_Config) ->
    Server = attached(classic),
    Bridge = whereis(?B),
    ok = ?S:add_tool(Server, <<"t">>, undefined),
    Odd = [
        {4, <<"mem:r">>, {{mcp_resource, <<"mem:r">>, <<"r">>, undefined, undefined, #{a => [b | c]}}, <<"static">>}},
        {6, <<"u">>, {{mcp_tool, <<"u">>, undefined, #{type => [a | b]}}, fun(_) -> <<>> end, undefined}},
        {7, <<"p">>, {{mcp_prompt, <<"p">>, undefined, #{who => true}}, fun(_) -> <<>> end}}
    ],
    _ = [sys:replace_state(Server, fun(S) -> setelement(At, S, (element(At, S))#{Key => Value}) end) || {At, Key, Value} <- Odd],
    ?assertMatch(
        {error, {refused, [
            {prompt, <<"p">>, {not_exported, _}}, {resource, <<"mem:r">>, {not_exported, _}}, {tool, <<"u">>, {not_exported, _}}
        ]}},
        ?B:sync(it)
    ),
    ?assertEqual((nothing())#{tool := [<<"t">>]}, published()),
    ?assertEqual(Bridge, whereis(?B)).

%% `sys:no_debug/1' takes it out as well: what it would have told is found by looking, and then it is there again.
tap_removed_by_others(_Config) ->
    Server = attached(classic),
    ok = ?B:sync(it),
    ok = sys:no_debug(Server),
    ok = ?S:add_tool(Server, <<"t">>, undefined),
    ?assertEqual(undefined, data(tool, <<"t">>)),
    ok = ?B:sync(it),
    ?assertEqual(1, ?S:debug(Server)),
    ok = ?S:add_tool(Server, <<"u">>, undefined),
    erlmcp_shm_test:eventually(fun() -> data(tool, <<"u">>) =/= undefined end).

%% What an attached server pays, of its own time: a batch of requests is in its mailbox before it may begin.
cost(_Config) ->
    bridge(#{}),
    Server = ?S:start(classic),
    Handler = fun(_) -> <<>> end,
    Requests = [
        {"a call that adds nothing", anything},
        {"add_tool_with_schema", {add_tool_with_schema, <<"t">>, Handler, #{<<"type">> => <<"object">>}}},
        {"add_resource", {add_resource, <<"mem:r">>, Handler}}
    ],
    Alone = [measured(Request, Server) || {_, Request} <- Requests],
    ok = ?B:attach(#{server => Server, name => it}),
    ok = ?B:sync(it),
    With = [measured(Request, Server) || {_, Request} <- Requests],
    Lines = [
        io_lib:format("~-26s ~8.2f ~8.2f ~8.2f~n", [What, A, W, W - A])
     || {{What, _}, A, W} <- lists:zip3(Requests, Alone, With)
    ],
    Table = io_lib:format("~n~-26s ~8s ~8s ~8s~n~s", ["us of the server a message", "alone", "attached", "more", Lines]),
    io:format(user, "~s", [Table]),
    ct:pal("~s", [Table]).

measured(Request, Server) ->
    Rounds = [one_measure(Request, Server) || _ <- lists:seq(1, 15)],
    lists:nth(8, lists:sort(Rounds)).

one_measure(Request, Server) ->
    N = 500,
    %% What the bridge was told in the round before is off the cores.
    [ok = ?B:sync(it) || is_map_key(<<"it">>, ?B:info())],
    ok = sys:suspend(Server),
    Sent = [gen_server:send_request(Server, Request) || _ <- lists:seq(1, N)],
    Start = erlang:monotonic_time(nanosecond),
    ok = sys:resume(Server),
    {reply, _} = gen_server:receive_response(lists:last(Sent), infinity),
    End = erlang:monotonic_time(nanosecond),
    [{reply, _} = gen_server:receive_response(Id, infinity) || Id <- lists:droplast(Sent)],
    (End - Start) / N / 1000.

%%% Configuration

configuration(_Config) ->
    {ok, #{bridge := Off}} = erlmcp_shm_config:claude_flow(#{}),
    ?assertEqual(false, maps:get(enabled, Off)),
    %% It would have nothing to publish in.
    [
        ?assertEqual({error, {bad_config, [bridge], {needs, shared_memory}}}, erlmcp_shm_config:claude_flow(Without))
     || Without <- [#{bridge => true}, #{bridge => #{}, shared_memory => false}, #{bridge => true, shared_memory => #{enabled => false}}]
    ],
    {ok, _} = erlmcp_shm_config:claude_flow(#{enabled => false, bridge => true}),
    {ok, #{bridge := On} = Flow} = erlmcp_shm_config:claude_flow(#{bridge => true, shared_memory => true}),
    Common = #{
        reconcile_interval => 30000,
        on_down => keep,
        kinds => [resource, tool, prompt],
        except => [],
        evaluate_timeout => 5000
    },
    ?assertEqual(Common#{enabled => true, servers => all}, On),
    ?assertEqual({ok, Flow}, erlmcp_shm_config:claude_flow(Flow)),
    %% What is said of all is said of each.
    {ok, #{bridge := #{servers := [A, B, C]}} = Named} = erlmcp_shm_config:claude_flow(#{
        shared_memory => true,
        bridge => #{
            on_down => withdraw,
            servers => [#{server => a}, #{server => <<"b">>, on_down => keep, prefix => "b_"}, #{server => self(), name => "c"}]
        }
    }),
    None = #{resource => <<>>, tool => <<>>, prompt => <<>>},
    ?assertEqual(Common#{server => a, name => <<"a">>, prefix => None, on_down => withdraw}, A),
    ?assertEqual(Common#{server => <<"b">>, name => <<"b">>, prefix => maps:map(fun(_, _) -> <<"b_">> end, None)}, B),
    ?assertEqual(Common#{server => self(), name => <<"c">>, prefix => None, on_down => withdraw}, C),
    ?assertEqual({ok, Named}, erlmcp_shm_config:claude_flow(Named)),
    [
        ?assertEqual({error, {bad_config, [bridge | Path], Value}}, erlmcp_shm_config:claude_flow(#{shared_memory => true, bridge => Bridge}))
     || {Bridge, Path, Value} <- [
            {1, [], 1},
            {#{unknown => 1}, [unknown], 1},
            {#{servers => some}, [servers], some},
            {#{servers => [#{}]}, [servers, 0, server], undefined},
            {#{servers => [#{server => a}, #{server => <<"a">>}]}, [servers, 1, name], <<"a">>},
            {#{servers => [#{server => a, prefix => #{tools => "x"}}]}, [servers, 0, prefix], #{tools => "x"}},
            {#{servers => [#{server => a, prefix => 1}]}, [servers, 0, prefix], 1},
            {#{servers => [#{server => self()}]}, [servers, 0, name], self()},
            {#{servers => [#{server => a, name => ""}]}, [servers, 0, name], ""},
            {#{servers => [a | b]}, [servers], [a | b]},
            {#{reconcile_interval => 0}, [reconcile_interval], 0},
            {#{on_down => forget}, [on_down], forget},
            {#{kinds => [templates]}, [kinds], [templates]},
            {#{except => ["a", 1]}, [except], ["a", 1]},
            {#{evaluate_timeout => infinity}, [evaluate_timeout], infinity}
        ]
    ],
    ?assertEqual({error, {bad_config, [bridge, servers], 1}}, ?B:start_link(#{servers => 1})),
    ?assertEqual(ignore, ?B:start_link(#{enabled => false})),
    ?assertEqual({error, not_started}, ?B:attach(#{server => a})),
    bridge(#{}),
    ?assertEqual({error, {bad_config, [bridge, server], undefined}}, ?B:attach(#{})),
    ?assertEqual({error, {bad_config, [bridge], a}}, ?B:attach(a)).

%% With the application, beside the exporter; and with a gateway that somebody starts by hand.
from_sys_config(Config) ->
    erlmcp_shm_test:stop(),
    Server = ?S:start(bridged_server, classic),
    ok = ?S:add_tool(Server, <<"t">>, undefined),
    Flow = #{
        shared_memory => #{path => erlmcp_shm_test:path(Config) ++ "2", size => 1 bsl 20},
        bridge => #{servers => [#{server => bridged_server}]}
    },
    ok = application:set_env(erlmcp_shm, claude_flow, Flow),
    {ok, _} = erlmcp_shm:start(),
    ok = ?B:sync(bridged_server),
    ?assertEqual((nothing())#{tool := [<<"t">>]}, published()),
    %% Its supervisor starts it anew.
    kill(whereis(?B)),
    erlmcp_shm_test:eventually(fun() -> is_pid(whereis(?B)) andalso ?B:sync(bridged_server) =:= ok end),
    ok = erlmcp_shm:stop(),
    ?assertEqual(undefined, whereis(?B)),
    %% What the one that was killed left in it goes with the next message.
    _ = gen_server:call(Server, anything),
    ?assertEqual(0, ?S:debug(Server)),
    {ok, Gateway} = erlmcp_claude_flow:start_link(Flow),
    ok = ?B:sync(bridged_server),
    ?assertEqual((nothing())#{tool := [<<"t">>]}, published()),
    ok = gen_server:stop(Gateway),
    ?assertEqual(undefined, whereis(?B)),
    ok = ?S:stop(Server).

%%% The real one

%% In another node, so that its modules are in nobody's way.
real_erlmcp(Config) ->
    case ?S:real_paths(erlmcp_server) of
        [] ->
            {skip, "no erlmcp_server on the code path, and none in ERLMCP_LIBS"};
        Paths ->
            Peer = erlmcp_shm_test:start_node(lists:append([["-pa", Path] || Path <- Paths])),
            try
                ok = erlmcp_shm_test:call(Peer, ?MODULE, real, [erlmcp_shm_test:path(Config) ++ "r"])
            after
                erlmcp_shm_test:stop_node(Peer)
            end
    end.

%% By what all its versions since 0.4.0 have, without any of its header files.
real(Path) ->
    _ = process_flag(trap_exit, true),
    ok = erlmcp_shm_test:start_unlinked(#{path => Path, size => 1 bsl 20}),
    {ok, Server} = apply(erlmcp_server, start_link, [calc, #{}]),
    {ok, Bridge} = ?B:start_link(#{servers => [], reconcile_interval => ?NEVER}),
    ok = ?B:attach(#{server => Server, name => calc}),
    ok = ?B:sync(calc),
    ok = apply(erlmcp_server, add_tool, [Server, <<"t">>, fun(_) -> <<"called">> end]),
    ok = gen_server:call(Server, {add_tool_with_schema, <<"u">>, fun(_) -> <<>> end, #{<<"type">> => <<"object">>, <<"n">> => 1}}),
    ok = apply(erlmcp_server, add_resource, [Server, <<"file:///r">>, fun(Uri) -> <<"of ", Uri/binary>> end]),
    ok = apply(erlmcp_server, add_prompt, [Server, <<"p">>, fun(_) -> <<"said">> end]),
    erlmcp_shm_test:eventually(fun() ->
        published() =:= #{resource => [<<"file:///r">>], tool => [<<"t">>, <<"u">>], prompt => [<<"p">>]}
    end),
    <<"of file:///r">> = data(resource, <<"file:///r">>),
    #{<<"n">> := 1} = json(data(tool, <<"u">>)),
    ok = ?B:sync(calc),
    ok = gen_server:stop(Bridge),
    0 = ?S:debug(Server),
    ok = apply(erlmcp_server, add_tool, [Server, <<"v">>, fun(_) -> <<>> end]),
    erlmcp_shm_test:stop(),
    ok.

%%% Tools

%% Without looking but when it is told to, unless a case says otherwise.
bridge(Options) ->
    {ok, Pid} = ?B:start_link(maps:merge(#{servers => [], reconcile_interval => ?NEVER}, Options)),
    Pid.

attached(Generation) ->
    attached(Generation, #{}).

attached(Generation, Options) ->
    _ = whereis(?B) =:= undefined andalso bridge(#{}),
    Server = ?S:start(Generation),
    ok = ?B:attach(Options#{server => Server, name => it}),
    Server.

kill(Pid) ->
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive
        {'DOWN', Monitor, process, Pid, _} -> ok
    end,
    receive
        {'EXIT', Pid, _} -> ok
    after 0 -> ok
    end.

state(Name) ->
    maps:get(state, maps:get(atom_to_binary(Name), ?B:info())).

nothing() ->
    #{resource => [], tool => [], prompt => []}.

published() ->
    maps:map(fun(Kind, _) -> keys(Kind, <<>>) end, nothing()).

keys(Kind, After) ->
    {Writer, _} = erlmcp_shm_writer:held(),
    {ok, {Entries, More}} = erlmcp_shm_nif:list(erlmcp_shm_writer:own(Writer), Kind, After, 1000),
    Keys = [Key || {Key, _, _} <- Entries],
    case More of
        true -> Keys ++ keys(Kind, lists:last(Keys));
        false -> Keys
    end.

data(Kind, Key) ->
    case ?E:lookup(Kind, Key) of
        {ok, Data, _} -> Data;
        {error, not_found} -> undefined
    end.

metadata(Kind, Key) ->
    {ok, _, #{metadata := Metadata}} = ?E:lookup(Kind, Key),
    json(Metadata).

json(Text) ->
    {ok, Term} = erlmcp_shm_json:decode(Text),
    Term.

log_to_us() ->
    logger:add_handler(?MODULE, ?MODULE, #{config => #{to => self()}}).

log(#{msg := {report, Report}}, #{config := #{to := To}}) ->
    To ! {logged, Report};
log(_, _) ->
    ok.

logged() ->
    receive
        {logged, Report} -> [Report | logged()]
    after 100 -> []
    end.
