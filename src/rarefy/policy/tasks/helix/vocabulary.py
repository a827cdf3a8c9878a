"""Common English words of three to five letters, for ladders and word searches.

Source: own, written down for density of ladders. Departures: MM-HELIX's word lists are larger.
"""

_WORDS = """
ace act add age ago aid aim air ale all and ant any ape apt arc are arm art ash ask ate awe axe
bad bag ban bar bat bay bed bee beg bet bid big bin bit boa bog boo bow box boy bud bug bun bus
but buy cab can cap car cat cob cod cog con cop cot cow coy cry cub cud cue cup cut dab dad dam
day den dew did die dig dim din dip doe dog don dot dry dub due dug dye ear eat ebb eel egg ego
elf elk elm end era eve ewe eye fad fan far fat fax fed fee few fig fin fir fit fix fly foe fog
for fox fry fun fur gag gap gas gel gem get gig gin god got gum gun gut guy gym had ham has hat
hay hem hen her hid him hip his hit hoe hog hop hot how hub hue hug hum hut ice icy ill ink inn
ion its ivy jab jam jar jaw jay jet job jog joy jug keg key kid kin kit lab lad lag lap law lax
lay led leg let lid lie lip lit log lot low mad man map mat may men met mid mix mob mop mow mud
mug nap net new nib nod nor not now nun nut oak oar oat odd off oil old one opt orb ore our out
owe owl own pad pan par pat paw pay pea peg pen pet pie pig pin pit pod pop pot pro pub pun pup
put rag ram ran rap rat raw ray red rib rid rim rip rob rod rot row rub rug rum run rut rye sad
sag sap sat saw say sea see set sew she shy sin sip sir sit six sky sly sob sod son sow soy spa
spy sub sue sum sun tab tag tan tap tar tax tea ten the tie tin tip toe ton too top toy try tub
tug two use van vat vet via vow wag war was wax way web wed wet who why wig win wit woe won wow
yak yam yes yet you zip zoo able acid aged aide arch area arid army atom aunt away baby back bail
bait bake bald bale ball balm band bane bang bank bard bare bark barn base bash bask bath bead
beak beam bean bear beat beef been beer bell belt bend bent best bike bile bill bind bird bite
blow blue boar boat body boil bold bolt bond bone book boom boot bore born boss both bowl brew
brow buck bulk bull bump bunk burn bury bush busy cage cake calf call calm came camp cane cape
card care cart case cash cast cave cell chat chef chin chip chop cite city clad clam clap claw
clay clip club clue coal coat code coil coin cold colt comb come cone cook cool cope copy cord
core cork corn cost coup cove crab crew crop crow cube cure curl cute dale dame damp dare dark
dart dash data date dawn dead deal dear deck deed deem deep deer dent desk dial dice died diet
dime dine dire dirt dish disk dive dock dome done doom door dose dote dove down drag draw drip
drop drum dual duck duel duet dull dumb dump dune dusk dust duty each earn ease east edge edit
else etch even ever exam exit face fact fade fail fair fake fall fame fare farm fast fate fear
feat feed feel fell felt fern file fill film find fine fire firm fish fist five flag flap flat
flaw flea flip flow foam foil fold folk fond font food fool foot ford fore fork form fort foul
four fowl free frog fuel full fund fuse gain gale game gang gape gate gave gaze gear germ gift
gill girl give glad glow glue goal goat goes gold gone good gown grab gray grew grid grin grip
grow gulf gull hail hair half hall halt hand hang hard hare harm harp hate haul have hawk head
heal heap hear heat heel held help herb herd here hero hide high hike hill hint hire hive hold
hole home hood hook hope horn hose host hour howl huge hull hung hunt hurt icon idea idle inch
iron item jail joke jump just keen keep kept kick kill kind king kite knee knit knot know lace
lack lady laid lake lamb lame lamp land lane lark lash last late lava lawn laws lead leaf leak
lean leap left lend lens less life lift like limb lime limp line link lint lion list live load
loaf loan lock loft lone long look loop lord lore lose loss lost loud love luck lump lung lure
lush made maid mail main make male mall malt mane many mark mart mask mass mast mate maze meal
mean meat meet melt mend menu mere mesh mess mice mild mile milk mill mind mine mint miss mist
moat mode mold mole moan mood moon moor more moss most moth move much mule muse must mute nail
name near neat neck need nest news next nice nine node none noon norm nose note noun null numb
oath obey okay once only onto open oral oven over pace pack page paid pail pain pair pale palm
pane park part pass past path pave peak pear peel peer pest pick pier pike pile pill pine pink
pint pipe plan play plea plot plow plug plus poem poet poke pole poll pond pool poor pope pore
pork port pose post pour pray prey pull pulp pump pure push quit race rack raft rage raid rail
rain rake ramp rang rank rare rate rave read real reap rear reed reef reel rein rely rent rest
rice rich ride ring riot rise risk road roam roar robe rock rode role roll roof room root rope
rose ruin rule rush rust safe sage said sail sake sale salt same sand sane sang sank save seal
seam seat seed seek seem seen self sell send sent shed ship shoe shop shot show shut sick side
sigh sign silk sing sink site size skin skip slam slap sled slid slim slip slot slow snap snow
soak soap soar sock soft soil sold sole some song soon sore sort soul soup sour span spin spot
star stay stem step stew stir stop such suit sure swan swap swim tail take tale talk tall tame
tank tape task team tear tell tend tent term test text than that them then they thin this tide
tidy tile till time tire told toll tomb tone tool torn toss tour town trap tray tree trim trip
true tube tuna tune turn twin type ugly unit upon urge used user vain vale vane vary vase vast
veil vein vent verb very vest view vine vote wade wage wait wake walk wall wane want ward ware
warm warn wart wash wasp wave weak wear weed week well went were west what when whip wide wife
wild will wind wine wing wink wipe wire wise wish with wolf wood wool word wore work worm worn
wrap yard yarn year yell yoke zero zone zoom agile alarm alike alive alone along angel anger angle
apple apply arena aside baker basic batch beach beard beast begin being bench berry birch black
blade blame blank blast blaze bleak blend bless blind blink block blond blood bloom board boast
brace braid brain brake brand brave bread break bride brief bring brink broad brook broom brown
brush bunch cable candy canoe catch cause chain chair chalk charm chart chase cheap cheat check
cheek chess chest chief child china chore chose civic claim clash class clean clear clerk click
cliff climb cling clock close cloth cloud clown coach coast coral count court cover crack craft
crane crank crash crate crawl crazy cream creek crest crime crisp cross crowd crown crude cruel
crush dance diner doing draft drain drama drank drape dream dress dried drift drill drink drive
drone drove eager eagle early earth eight elbow enjoy enter equal fable faint faith false fancy
feast fence field fiend fight final flair flake flame flank flare flash flask fleet flesh flick
flint float flock flood floor flour fluid flush flute focus force forge forth frail frame fresh
front frost fruit giant glade gland glare glass gleam glide globe gloom glory glove grace grade
grain grand grant grape graph grasp grass grate grave graze great green greet grief grill grind
groan groom gross group grove growl guard guess guest guide habit happy harsh haste hasty heart
heavy hedge hinge hoist honey horse hotel hound house human humor image index inner input issue
jewel joint judge juice knife known label lance large laser latch later laugh layer learn lease
least leave ledge lemon level lever light liner liver local lodge loose lover lower loyal lucky
lunch magic maple march marsh mason match medal melon mercy merge merit merry metal might miner
minor model moist money month moral motor mount mouse mouth movie music night noble noise north
novel nurse ocean olive onion opera orbit order other otter outer paint panel paper party paste
patch pause peace peach pearl perch phone photo piano piece pilot pinch place plain plane plank
plant plate plaza point poise poker polar porch pouch pound power press price pride prime print
prior prize probe proof proud prove prune pulse punch pupil purse queen quest quick quiet quilt
quite quote radar radio raise ranch range rapid reach react ready realm rider ridge right rinse
river roast robin rough round route royal ruler rural saint salad sauce scale scare scarf scene
scent scope score scout screw sense serve seven shade shake shall shame shape share shark sharp
shave sheep sheet shelf shell shine shirt shock shone shore short shout shove shown shrub sight
since skate skill skirt slate slave sleek sleep slice slide slope small smart smell smile smoke
snack snail snake snare sneak solid solve sound south space spade spare spark spear speak speed
spell spend spice spike spine spite split spoil spoke spoon spore sport spray squad stack staff
stage stain stair stake stale stalk stall stamp stand stare stark start state steal steam steel
steep steer stern stick stiff still sting stock stole stone stood stool stoop store stork storm
story stout stove strap straw strip stuck study stuff style sugar swamp swarm swear sweat sweep
sweet swell swept swift swing sword table taste teach teeth thank theme there these thick thief
thing think third those three threw throw thumb tiger tight timer toast token tooth topic torch
total touch tough tower trace track trade trail train trait tramp trash tread treat trend trial
tribe trick troop truck truly trunk trust truth twice under union unite upper upset urban usual
valid value vapor video visit vital vocal voice wagon waist waste watch water weary weave wedge
whale wheat wheel where which while white whole whose widen woman world worry worse worst worth
would wound woven wreck wrist write wrong yield young youth
"""

WORDS: dict[int, tuple[str, ...]] = {
    length: tuple(sorted({word for word in _WORDS.split() if len(word) == length}))
    for length in (3, 4, 5)
}
"""Words by length, in alphabetical order."""
