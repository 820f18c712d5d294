package access

import "strings"

// easyPairs is how many of the words are paired in the list of easy passwords.
const easyPairs = 120

// commonWords are what people make passwords of, roughly in the order in which
// somebody would try them. The list is our own.
func commonWords() []string {
	return strings.Fields(`
password passwort motdepasse contrasena senha parola haslo wachtwoord passw0rd pass welcome willkommen bienvenue admin administrator root user login letmein changeme default
secret master access system server iloveyou love loveyou ilove you me qwerty qwertz azerty asdf abc test testing guest temp temporary hello hallo bonjour monkey dragon
princess sunshine shadow football baseball basketball hockey soccer tennis superman batman spiderman ironman starwars pokemon naruto minecraft fortnite hunter ranger killer
freedom whatever trustno summer winter spring autumn fall sommer herbst fruehling january february march april may june july august september october november december
monday tuesday wednesday thursday friday saturday sunday montag freitag sonntag today tomorrow yesterday morning night day
hawser northwind company office firma maker device devices gateway console sensor product factory cloud iot internet network wifi router security secure privacy
michael jennifer thomas jessica daniel ashley joshua andrew matthew anthony robert nicole amanda william james john david richard charles joseph christopher maria anna laura
sarah michelle melissa stephanie elizabeth samantha alexander alexandra benjamin charlotte sophie sophia emma olivia lucas oliver george harry jack max moritz paul peter stefan
martin markus andreas sebastian christian julia lisa lena katharina sabine petra claudia monika ursula helga werner juergen klaus dieter wolfgang mohamed ahmed fatima ali omar
jose juan carlos miguel antonio francisco manuel pedro luis jorge carmen lucia marco luca giulia francesca alessandro giovanni pierre jean jacques marie camille nathalie
charlie buddy bella luna rocky daisy molly lucy bailey coco lola ginger pepper oscar tiger lion bear wolf eagle falcon hawk phoenix panther jaguar leopard cheetah elephant
dolphin whale shark turtle rabbit kitty kitten puppy doggy cat dog cats dogs horse pony mouse bird fish snake spider butterfly unicorn dinosaur panda koala penguin fox
red blue green yellow orange purple black white silver golden gold pink brown gray grey rainbow diamond crystal ruby emerald sapphire pearl
apple banana cherry lemon strawberry chocolate cookie coffee tea pizza burger cheese butter sugar honey candy pepper pumpkin peanut tomato potato chicken bacon
london paris berlin madrid rome vienna munich hamburg newyork york boston chicago dallas texas florida california america england france germany italy spain europe africa asia
australia canada mexico brazil argentina russia china japan india turkey poland holland sweden norway denmark finland switzerland austria ireland scotland
mercedes porsche ferrari lamborghini toyota honda nissan mustang corvette camaro chevrolet harley yamaha suzuki ducati volkswagen volvo bmw audi ford
arsenal chelsea liverpool manchester united barcelona realmadrid juventus milan bayern dortmund schalke ajax benfica rangers celtic yankees cowboys lakers bulls steelers eagles packers patriots
google facebook twitter youtube instagram amazon netflix microsoft windows linux ubuntu android iphone samsung nokia sony playstation nintendo xbox apple computer laptop keyboard
music guitar piano metallica nirvana beatles queen slipknot eminem rock metal jazz dance party disco
god jesus christ angel heaven devil satan church faith hope peace blessed grace mercy bible prayer
family mother father mama papa mommy daddy sister brother baby child children friend friends forever together always never home house garden
money dollar million lucky winner success business work job boss manager worker teacher student school college university doctor nurse police army navy marine pilot captain
happy smile funny crazy sexy beautiful pretty sweet cute cool awesome amazing perfect great good best bad evil dark light fire water earth wind air ice snow rain storm thunder
star stars moon sun sky ocean river mountain forest island beach flower rose lily tulip tree leaf grass stone rock sand
king queen prince knight wizard magic warrior soldier ninja samurai pirate vampire zombie ghost monster alien robot hero legend
one two three four five six seven eight nine ten eleven twelve hundred thousand zero first second third last
correct horse battery staple open sesame abracadabra hocus pocus mickey donald goofy pluto bugs bunny garfield snoopy tinkerbell cinderella simpson homer bart
harrypotter potter hermione gandalf frodo legolas aragorn matrix neo trinity terminator rambo rocky bond jamesbond sherlock holmes watson
please thank thanks welcome goodbye sorry yes no maybe okay nothing something everything someone everyone anyone
time life world people person man woman boy girl girls boys men women name number word thing place year week month hour minute
big small little long short high low new old young hot cold fast slow hard soft easy strong weak rich poor free full empty
the and for with from this that what when where why how who which all any some many more most other into over under about after before
blood bone heart head hand foot eye eyes nose mouth hair face body mind soul spirit dream dreams
run walk jump swim fly drive ride play game games gamer player win lose fight war battle gun sword bullet sniper
door window table chair bed room kitchen bath floor wall roof street road bridge car truck bus train plane boat ship bike
book paper pen pencil letter story movie film picture photo camera phone radio television
bread milk meat egg eggs fruit salad soup beer wine vodka whiskey tequila water juice
marlboro snickers pepsi cocacola nutella twix oreo
scooter skater surfer biker rider racer boxer golfer dancer singer
orchid violet jasmine iris heather holly ivy hazel olive sage
silver copper iron steel bronze platinum titanium carbon
north south east west left right center
alpha beta gamma delta omega sigma bravo echo foxtrot tango victor whiskey zulu
`)
}

// phrases are sentences and quotations that many take for their own idea,
// written together.
func phrases() []string {
	return strings.Fields(`
correcthorsebatterystaple iloveyousomuch iloveyouforever iloveyoubaby ilovemyself ilovemyfamily ilovemydog ilovemycat ilovemymom ilovemywife ilovemykids iloveyouverymuch
letmeinplease letmeinnow opensesame openthedoor thisismypassword mypasswordis mypassword thepassword passwordpassword nopassword newpassword oldpassword forgotpassword
idontknow idontcare idontremember whatisthis whatthehell whatthefuck fuckyou fuckyoubitch fuckoff gotohell kissmyass suckmydick bitemetoday
changemenow changeitnow changethis pleasechangeme defaultpassword temporarypassword temppassword
adminadmin administrator adminpassword adminadminadmin rootroot rootpassword superuser sysadmin systemadministrator testtest testpassword testtesttest userpassword welcomehome welcometo
maytheforcebewithyou lukeiamyourfather tobeornottobe livelongandprosper hakunamatata winteriscoming valarmorghulis youshallnotpass onceuponatime happilyeverafter
inthebeginning thelordismyshepherd jesuslovesme jesusislord godisgood godisgreat godblessyou godblessamerica inGodwetrust praisethelord amazinggrace
happybirthday merrychristmas happynewyear goodmorning goodnight goodluck goodbye thankyou thankyouverymuch haveaniceday seeyoulater
carpediem loremipsum loremipsumdolor veniVidiVici cogitoergosum semperfidelis
twinkletwinklelittlestar jackandjill maryhadalittlelamb thequickbrownfox thequickbrownfoxjumps thequickbrownfoxjumpsoverthelazydog
supercalifragilistic supercalifragilisticexpialidocious antidisestablishmentarianism donaudampfschifffahrt
houstonwehaveaproblem beammeupscotty illbeback hastalavista hastalavistababy showmethemoney frankenstein tothemoon tothemoonandback neveragain nevergiveup
neversaynever followyourdreams followyourheart livelaughlove livelovelaugh peaceandlove allyouneedislove stairwaytoheaven bohemianrhapsody hotelcalifornia
manchesterunited realmadrid barcelona liverpoolfc arsenalfc chelseafc bayernmunich borussiadortmund dallascowboys greenbaypackers newyorkyankees losangeles newyorkcity sanfrancisco
unitedstates unitedkingdom greatbritain deutschland oesterreich schweiz australia newzealand southafrica
ichliebedich ichliebedichsehr jetaime jetaimebeaucoup teamo teamomucho tiamo tequieromucho geheimespasswort meinpasswort passwortgeheim keinpasswort
abcdefghijkl abcd abcdabcd abcdabcdabcd abcdefg1234567 qwertyuiop qwertyuiopasdfghjkl qwertyuiopasdfghjklzxcvbnm asdfghjkl zxcvbnm qazwsxedc qazwsxedcrfv asdfasdf asdfasdfasdf qwerqwerqwer qweasdzxc
hawserhawser hawseradmin hawserpassword hawserconsole hawseroperator hawserserver northwindadmin northwindpassword
`)
}
