%% Every command that a page shows is run, and prints what the page says that it prints.
%%
%% In a block of kind `console' a line that begins with `$ ' is a command, one with `# ' a command for root, one with
%% `> ' the next line of the command before it, and anything else what is printed: `...' in it is anything, and a line of
%% `...' any number of lines. Nothing shown is nothing said. Each section of a page starts from nothing.
-module(erlmcp_shm_docs_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

all() ->
    [deployment, operating, contributing, claims, links].

init_per_suite(Config) ->
    {ok, Sandbox} = erlmcp_shm_test:project_file("erlang_test/sandbox.sh"),
    Input = filename:join(proplists:get_value(priv_dir, Config), "nothing"),
    ok = file:write_file(Input, <<>>),
    case sandbox(Sandbox, Input) of
        {0, _} -> [{sandbox, Sandbox} | Config];
        {_, Why} -> [{no_sandbox, "SKIPPED: no name spaces of one's own here: " ++ binary_to_list(Why)} | Config]
    end.

end_per_suite(_Config) ->
    ok.

deployment(Config) -> page("docs/deployment.md", [], Config).

%% A node that runs is what the page is about.
operating(Config) ->
    Start = "ERL_LIBS=_build/default/lib erl -noinput -config config/claude_flow -s erlmcp_shm >/dev/null 2>&1 &",
    page("docs/operating.md", [Start], Config).

contributing(Config) -> page("CONTRIBUTING.md", [], Config).

page(Relative, Before, Config) ->
    case proplists:get_value(no_sandbox, Config) of
        undefined -> [section(Relative, Title, Before, Commands, Config) || {Title, [_ | _] = Commands} <- sections(Relative)];
        Why -> {skip, Why}
    end.

section(Relative, Title, Before, Commands, Config) ->
    Input = filename:join(proplists:get_value(priv_dir, Config), "commands"),
    All = [{any, Command, []} || Command <- Before] ++ Commands,
    ok = file:write_file(Input, [[atom_to_binary(Who), $:, Command, 0] || {Who, Command, _} <- All]),
    {0, Printed} = sandbox(proplists:get_value(sandbox, Config), Input),
    Results = results(Printed),
    ?assertEqual({Title, length(All)}, {Title, length(Results)}),
    [check(Relative, Command, Shown, Result) || {{_, Command, Shown}, Result} <- lists:zip(All, Results)].

check(_, Command, _, {skipped, Why}) ->
    ct:print("SKIPPED: ~ts (~ts)", [Command, Why]);
check(Relative, Command, Shown, {Out, Err, Status}) ->
    ?assertEqual({Relative, Command, 0, Out, Err}, {Relative, Command, Status, Out, Err}),
    Shown =:= [] orelse
        ?assertMatch({Command, match, _}, {Command, re:run(Out, pattern(Shown), [{capture, none}]), Out}).

pattern(Lines) ->
    Line = fun
        (<<"...">>) -> "(?:.*\\n)*?";
        (Text) -> [lists:join(".*", [quoted(Part) || Part <- binary:split(Text, <<"...">>, [global])]), "\\n"]
    end,
    iolist_to_binary(["\\A", [Line(Text) || Text <- Lines], "\\Z"]).

quoted(Text) ->
    re:replace(Text, "[][(){}.*+?^$|\\\\/-]", "\\\\&", [global]).

sandbox(Sandbox, Input) ->
    {ok, Binary} = erlmcp_shm_test:binary("erlmcp-shm"),
    Shell = os:find_executable("sh"),
    Script = "exec \"$0\" \"$1\" \"$2\" <\"$3\" 2>&1",
    Args = ["-c", Script, Sandbox, filename:dirname(filename:dirname(Sandbox)), filename:dirname(Binary), Input],
    erlmcp_shm_test:run(Shell, Args, [{env, [{"SANDBOX_LIBS", libs()}]}]).

%% Where erlmcp_shm is, and what it needs.
libs() ->
    filename:dirname(code:lib_dir(erlmcp_shm)).

results(Printed) ->
    Pattern = "@@ (?:skipped (.*)\\n|out\\n((?s:.*?))@@ err\\n((?s:.*?))@@ status (\\d+)\\n)",
    {match, All} = re:run(Printed, Pattern, [global, {capture, all_but_first, binary}]),
    [
        case Result of
            [Why] -> {skipped, Why};
            [_, Out, Err, Status] -> {Out, Err, binary_to_integer(Status)}
        end
     || Result <- All
    ].

%%% Pages

%% Title and commands, those with who runs them and what is shown behind.
sections(Relative) ->
    Sections = re:split(read(Relative), "^(?=## )", [multiline]),
    [{hd(binary:split(Section, <<"\n">>)), commands(Section)} || Section <- Sections].

commands(Section) ->
    Blocks = found(Section, "^```console\\n(.*?)^```", [multiline, dotall]),
    lists:append([lists:reverse(lists:foldl(fun line/2, [], binary:split(Block, <<"\n">>, [global, trim]))) || Block <- Blocks]).

line(<<"$ ", Command/binary>>, Before) -> [{any, Command, []} | Before];
line(<<"# ", Command/binary>>, Before) -> [{root, Command, []} | Before];
line(<<"> ", More/binary>>, [{Who, Command, []} | Before]) -> [{Who, <<Command/binary, $\n, More/binary>>, []} | Before];
line(Shown, [{Who, Command, Lines} | Before]) -> [{Who, Command, Lines ++ [Shown]} | Before].

%% What docs/security.md says of a test is said of one that there is.
claims(_Config) ->
    {match, Claims} = re:run(read("docs/security.md"), "`([\\w!]+)` in ([\\w/.]+)", [global, {capture, all_but_first, binary}]),
    ?assert(length(Claims) > 20),
    [
        ?assertMatch({match, _}, re:run(read(File), ["(?m)^\\s*(fn |async fn )?", Test, "\\b|^", Test]), {File, Test})
     || [Test, File] <- Claims
    ].

%% What a page refers to is there, headings included.
links(_Config) ->
    Pages = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md" | pages()],
    [
        begin
            {File, Heading} =
                case binary:split(Link, <<"#">>) of
                    [<<>>, Anchor] -> {Page, Anchor};
                    [Relative, Anchor] -> {beside(Page, Relative), Anchor};
                    [Relative] -> {beside(Page, Relative), none}
                end,
            ?assertMatch({Page, Link, {ok, _}}, {Page, Link, erlmcp_shm_test:project_file(File)}),
            Heading =:= none orelse ?assert(lists:member(Heading, headings(File)), {Page, Link})
        end
     || Page <- Pages, Link <- found(read(Page), "\\]\\(((?!https?:)[^)]+)\\)", [])
    ].

pages() ->
    {ok, Page} = erlmcp_shm_test:project_file("docs/operating.md"),
    [filename:join("docs", Name) || Name <- filelib:wildcard("*.md", filename:dirname(Page))].

%% Without the steps up, as a path below the project.
beside(Page, Relative) ->
    Parts = filename:split(filename:join(filename:dirname(Page), Relative)),
    filename:join(lists:reverse(lists:foldl(fun step/2, [], Parts))).

step(Up, [_ | Parts]) when Up =:= ".."; Up =:= <<"..">> -> Parts;
step(Here, Parts) when Here =:= "."; Here =:= <<".">> -> Parts;
step(Part, Parts) -> [Part | Parts].

headings(File) ->
    [anchor(Heading) || Heading <- found(read(File), "^#+ (.*)$", [multiline])].

anchor(Heading) ->
    Kept = re:replace(string:lowercase(Heading), "[^\\w -]", "", [global, unicode]),
    iolist_to_binary(string:replace(iolist_to_binary(Kept), " ", "-", all)).

found(Text, Pattern, Options) ->
    case re:run(Text, Pattern, [global, {capture, all_but_first, binary} | Options]) of
        {match, All} -> lists:append(All);
        nomatch -> []
    end.

read(Relative) ->
    {ok, File} = erlmcp_shm_test:project_file(Relative),
    {ok, Text} = file:read_file(File),
    Text.
